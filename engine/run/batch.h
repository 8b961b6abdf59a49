// Filling a batch: from a text (Tokens, TokenSpan) to the host arena's slot.
#pragma once
#include <algorithm>
#include <span>

#include "engine/brain/brain.h"
#include "engine/graph/program.h"

namespace neurogen {

// Tokens in the caller's memory, read as a text is.
struct TokenSpan {
  std::span<const std::int32_t> ids;
  std::int64_t size() const { return static_cast<std::int64_t>(ids.size()); }
  void read(std::int64_t begin, std::span<std::int32_t> to) const { std::copy_n(ids.begin() + begin, to.size(), to.begin()); }
};

// Throws Error for a token at or above the vocabulary among these ids and the one behind them, which begin at this position of a
// text.
void check_vocabulary(const Brain& brain, std::span<const std::int32_t> ids, std::int32_t behind, std::int64_t begin);

// Sequence `sequence` of the batch: `length` tokens of the text from `begin` on, and their successors as targets. The rest of
// the window is filled with token 0 that nothing is asked about (target -1). Allocates nothing unless it throws: as
// check_vocabulary.
template <typename Text>
void fill_sequence(const Brain& brain, const Program& program, const Text& text, std::int64_t sequence, std::int64_t begin,
                   std::int64_t length) {
  const std::int64_t window = brain.options.window;
  std::int32_t* ids = program.view(brain.host_batch).as<std::int32_t>() + sequence * window;
  std::int32_t* targets = ids + brain.options.tokens();
  const auto count = static_cast<std::size_t>(length);
  text.read(begin, {ids, count});
  text.read(begin + 1, {targets, count});
  if (count > 0) check_vocabulary(brain, {ids, count}, targets[count - 1], begin);
  std::fill(ids + length, ids + window, 0);
  std::fill(targets + length, targets + window, -1);
}

}  // namespace neurogen

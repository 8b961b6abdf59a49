// Fills a batch: copies from a text (Tokens, TokenSpan) into host_batch.
#pragma once
#include <algorithm>
#include <span>

#include "engine/graph/program.h"
#include "engine/model/model.h"

namespace neurogen {

// Tokens in the caller's memory, with the interface of a text.
struct TokenSpan {
  std::span<const std::int32_t> ids;
  std::int64_t size() const { return static_cast<std::int64_t>(ids.size()); }
  void read(std::int64_t begin, std::span<std::int32_t> to) const { std::copy_n(ids.begin() + begin, to.size(), to.begin()); }
  void read_targets(std::int64_t begin, std::span<std::int32_t> to) const { read(begin, to); }
};

// Throws Error for a token at or above the vocabulary among `ids` and the next token, `behind`. The ids start at position `begin`
// of a text.
void check_vocabulary(const Model& model, std::span<const std::int32_t> ids, std::int32_t behind, std::int64_t begin);

// Fills sequence `sequence` of the batch with `length` tokens of the text from `begin` on, and their successors as targets, -1 for
// those that are not learned. The rest of the window is token 0 with target -1, which is not counted. Throws as check_vocabulary;
// allocates nothing otherwise.
template <typename Text>
void fill_sequence(const Model& model, const Program& program, const Text& text, std::int64_t sequence, std::int64_t begin,
                   std::int64_t length) {
  const std::int64_t window = model.options.window;
  std::int32_t* ids = program.view(model.ports.batch).as<std::int32_t>() + sequence * window;
  std::int32_t* targets = ids + model.options.tokens();
  const auto count = static_cast<std::size_t>(length);
  text.read(begin, {ids, count});
  text.read_targets(begin + 1, {targets, count});
  if (count > 0) check_vocabulary(model, {ids, count}, targets[count - 1], begin);
  std::fill(ids + length, ids + window, 0);
  std::fill(targets + length, targets + window, -1);
}

}  // namespace neurogen

#include "engine/run/batch.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"

namespace neurogen {

void fill_sequence(const Brain& brain, const Program& program, const Tokens& text, std::int64_t sequence, std::int64_t begin,
                   std::int64_t length) {
  const std::int64_t window = brain.options.window;
  std::int32_t* ids = program.view(brain.host_batch).as<std::int32_t>() + sequence * window;
  std::int32_t* targets = ids + brain.options.tokens();
  const auto count = static_cast<std::size_t>(length);
  text.read(begin, {ids, count});
  text.read(begin + 1, {targets, count});
  // A long text is not read whole before (Tokens::check_vocabulary), and a wrong token would lead astray.
  const auto vocabulary = static_cast<std::int32_t>(brain.architecture.vocabulary);
  const std::int32_t most = std::max(count > 0 ? *std::max_element(ids, ids + count) : 0, count > 0 ? targets[count - 1] : 0);
  if (most >= vocabulary) {
    throw Error(fmt::format("the text has token {} among the {} from position {} on, but the vocabulary has {}: use the tokenizer that made it",
                            most, length + 1, begin, vocabulary), Error::kRunTime);
  }
  std::fill(ids + length, ids + window, 0);
  std::fill(targets + length, targets + window, -1);
}

}  // namespace neurogen

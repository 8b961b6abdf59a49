#include "engine/run/batch.h"

#include <algorithm>

namespace neurogen {

void fill_sequence(const Brain& brain, const Program& program, const Tokens& text, std::int64_t sequence, std::int64_t begin,
                   std::int64_t length) {
  const std::int64_t window = brain.options.window;
  std::int32_t* ids = program.view(brain.host_batch).as<std::int32_t>() + sequence * window;
  std::int32_t* targets = ids + brain.options.tokens();
  const auto count = static_cast<std::size_t>(length);
  text.read(begin, {ids, count});
  text.read(begin + 1, {targets, count});
  std::fill(ids + length, ids + window, 0);
  std::fill(targets + length, targets + window, -1);
}

}  // namespace neurogen

#include "engine/run/batch.h"

#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {

// Checks each batch because Tokens::check_vocabulary does not read all of a long text, and an invalid id would index out of bounds.
void check_vocabulary(const Model& model, std::span<const std::int32_t> ids, std::int32_t behind, std::int64_t begin) {
  const std::int32_t most = std::max(*std::max_element(ids.begin(), ids.end()), behind);
  if (most < model.architecture->vocabulary()) return;
  throw Error(
      fmt::format(
          "the text has token {} among the {} from position {} on, but the vocabulary has {}: use the tokenizer that made it", most,
          ids.size() + 1, begin, model.architecture->vocabulary()),
      Error::kRunTime);
}

}  // namespace neurogen

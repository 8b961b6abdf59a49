// Checks token ids from the caller.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "arena/error.h"

namespace neurogen {

// Throws Error, naming position and value, for an id below `least` or outside the vocabulary. `of`: "[2]" in a list of ids.
inline void check_ids(const char* field, std::span<const std::int32_t> ids, std::int32_t least, std::int64_t vocabulary,
                      const std::string& of = "") {
  const auto wrong = std::find_if(ids.begin(), ids.end(), [&](std::int32_t id) { return id < least || id >= vocabulary; });
  if (wrong == ids.end()) return;
  throw Error(
      {Field(field), of + fmt::format("[{}] is {}: use ids from {} to {}", wrong - ids.begin(), *wrong, least, vocabulary - 1)});
}

}  // namespace neurogen

// Parses JSON from untrusted files, and escapes strings for JSON.
#pragma once
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "arena/error.h"

namespace neurogen {

// Returns a discarded value if `text` is not JSON. Throws Error, beginning with `name`, if objects and lists nest more than
// `levels` deep (the library traverses values recursively) or an object has a name twice (the library keeps the last).
template <typename Json = nlohmann::json>
Json parse_json(std::string_view text, int levels, const std::string& name) {
  std::vector<std::set<std::string>> keys(static_cast<std::size_t>(levels) + 1);  // names in the open object at each depth
  const auto check = [&](int depth, typename Json::parse_event_t event, Json& value) {
    using Event = typename Json::parse_event_t;
    const bool opens = event == Event::object_start || event == Event::array_start;
    if (opens && depth >= levels)
      throw Error(fmt::format("{}: nested too deeply for JSON of {} levels: it is damaged", name, levels));
    if (event == Event::object_start) keys[static_cast<std::size_t>(depth) + 1].clear();
    if (event == Event::key && !keys[static_cast<std::size_t>(depth)].insert(value.template get<std::string>()).second)
      throw Error(fmt::format("{} has the name {} twice in one object: it is damaged", name, value.dump()));
    return true;
  };
  return Json::parse(text, check, false);
}

// Appends the contents of a JSON string that every parser accepts: invalid UTF-8 becomes U+FFFD; control characters, U+2028 and
// U+2029 (line ends to some parsers) are escaped. Allocates nothing if `to` has room.
void append_json_text(std::string& to, std::string_view text);

// A quoted JSON string.
std::string json_text(std::string_view text);

}  // namespace neurogen

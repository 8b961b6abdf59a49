#include "engine/api/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <new>
#include <string_view>

#include "arena/error.h"
#include "engine/run/process.h"

namespace neurogen {
namespace {

// Messages name options as on the command line; the result names the field: --decoder-tile becomes decoder_tile.
std::string in_our_words(std::string sentence) {
  static constexpr std::pair<std::string_view, std::string_view> kOthers[] = {
      {"arch", "architecture"}, {"seq", "window"}, {"lr", "learning_rate"}};
  for (std::size_t at = 0; (at = sentence.find("--", at)) != sentence.npos;) {
    std::size_t end = at + 2;
    while (end < sentence.size() && (std::islower(static_cast<unsigned char>(sentence[end])) || sentence[end] == '-')) ++end;
    std::string field = sentence.substr(at + 2, end - at - 2);
    std::replace(field.begin(), field.end(), '-', '_');
    for (const auto& [option, name] : kOthers) {
      if (field == option) field = name;
    }
    sentence.replace(at, end - at, field);
    at += field.size();
  }
  return sentence;
}

}  // namespace

Failure failure_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& error) {
    return {in_our_words(error.what()), error.status() == Error::kMisuse};
  } catch (const std::bad_alloc&) {
    return {in_our_words(std::string(kOutOfMemory))};
  } catch (const std::exception& error) {
    return {fmt::format("{}: this should not happen, please report it", error.what())};
  }
}

}  // namespace neurogen

#include "tools/common/decimal.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>

namespace neurogen {
namespace {

// Returns what is wrong, or nothing. Rewrites a whole number without leading zeros, which CLI11 takes for base eight.
template <typename Number>
std::string check_decimal(std::string& text) {
  constexpr bool whole = std::is_integral_v<Number>;
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (stop != end || error == std::errc::invalid_argument) {
    return fmt::format("\"{}\" is not a {}decimal number", text, whole ? "whole " : "");
  }
  if (error == std::errc::result_out_of_range) {
    return fmt::format("{} is out of range, use {} to {}", text, std::numeric_limits<Number>::lowest(),
                       std::numeric_limits<Number>::max());
  }
  if (whole) text = fmt::format("{}", number);
  return {};
}

// A transformation comes before the option's checks.
template <typename Number>
void take_decimal(CLI::Option& option) {
  option.transform(CLI::Validator(check_decimal<Number>, ""));
}

}  // namespace

CLI::Validator above_zero() {
  const auto check = [](std::string& text) {
    return std::strtod(text.c_str(), nullptr) > 0 ? "" : text + ": use a number above 0";
  };
  return {check, ""};
}

CLI::Validator not_negative() {
  const auto check = [](std::string& text) { return std::strtod(text.c_str(), nullptr) >= 0 ? "" : text + ": use 0 or more"; };
  return {check, ""};
}

void take_decimal_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (type.starts_with("INT")) take_decimal<std::int64_t>(*option);
    if (type.starts_with("UINT")) take_decimal<std::uint64_t>(*option);
    if (type.starts_with("FLOAT")) take_decimal<double>(*option);
  }
  for (CLI::App* command : app.get_subcommands(nullptr)) take_decimal_numbers(*command);
}

}  // namespace neurogen

#include "tools/common/decimal.h"

#include <fmt/format.h>

#include <charconv>
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

// Rewrites the number before the option's other checks, and refuses it after them.
template <typename Number>
void take_decimal(CLI::Option& option) {
  const auto rewrite = [](std::string& text) { return check_decimal<Number>(text), std::string(); };
  option.transform(CLI::Validator(rewrite, ""));
  option.check(CLI::Validator(check_decimal<Number>, ""));
}

}  // namespace

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

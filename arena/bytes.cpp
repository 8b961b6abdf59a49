#include "arena/bytes.h"

#include <fmt/format.h>

#include <charconv>

namespace neurogen {
namespace {

// Takes a run of digits off the front of `text`.
std::string_view take_digits(std::string_view& text) {
  std::size_t n = 0;
  while (n < text.size() && text[n] >= '0' && text[n] <= '9') ++n;
  const std::string_view digits = text.substr(0, n);
  text.remove_prefix(n);
  return digits;
}

// The factor that a unit stands for; 0 if the unit is invalid.
Bytes factor_of(std::string_view unit) {
  static constexpr std::string_view kLetters = "KMGT";
  if (unit.empty()) return 1;
  const std::size_t power = kLetters.find(unit[0]);
  if (power == std::string_view::npos) return 0;
  const bool binary = unit.size() == 2 && unit[1] == 'i';
  if (unit.size() != 1 && !binary) return 0;
  Bytes factor = 1;
  for (std::size_t i = 0; i <= power; ++i) factor *= binary ? 1024 : 1000;
  return factor;
}

}  // namespace

Bytes add(Bytes a, Bytes b) {
  Bytes sum;
  if (__builtin_add_overflow(a, b, &sum)) throw Error(fmt::format("{} + {} bytes do not fit 64 bits", a, b));
  return sum;
}

Bytes multiply(Bytes a, Bytes b) {
  Bytes product;
  if (__builtin_mul_overflow(a, b, &product)) throw Error(fmt::format("{} x {} bytes do not fit 64 bits", a, b));
  return product;
}

Bytes align_up(Bytes size) { return add(size, kAlignment - 1) / kAlignment * kAlignment; }

Bytes parse_bytes(std::string_view text, Field field) {
  std::string_view rest = text;
  const std::string_view whole = take_digits(rest);
  const bool dotted = !whole.empty() && rest.starts_with('.');
  if (dotted) rest.remove_prefix(1);
  const std::string_view decimals = dotted ? take_digits(rest) : std::string_view();
  if (rest.ends_with('B')) rest.remove_suffix(1);
  const Bytes factor = factor_of(rest);
  if (whole.empty() || factor == 0 || (dotted && (decimals.empty() || factor == 1))) {
    throw Error({field, fmt::format(" \"{}\" is not a size: write bytes, as in 12345, or a number with a unit (K, M, G, T, Ki, Mi, "
                                    "Gi, Ti), as in 3200M or 2.98Gi",
                                    text)});
  }
  // floor(factor * 0.d1 d2 ... dk), from the last digit on: nested floors of tenths lose nothing.
  Bytes fraction = 0;
  for (auto digit = decimals.rbegin(); digit != decimals.rend(); ++digit) {
    fraction = (factor * static_cast<Bytes>(*digit - '0') + fraction) / 10;
  }
  Bytes bytes = 0;
  const bool too_long = std::from_chars(whole.data(), whole.data() + whole.size(), bytes).ec != std::errc();
  if (too_long || __builtin_mul_overflow(bytes, factor, &bytes) || __builtin_add_overflow(bytes, fraction, &bytes)) {
    throw Error({field, fmt::format(" \"{}\" does not fit 64 bits: give at most {} bytes", text, UINT64_MAX)});
  }
  return bytes;
}

std::string with_commas(Bytes bytes) {
  std::string text = std::to_string(bytes);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string human(Bytes bytes) {
  static constexpr const char* kUnits[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 999.5; ++unit) value /= 1000;
  const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

}  // namespace neurogen

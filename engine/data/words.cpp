#include "engine/data/words.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "arena/error.h"
#include "engine/data/segment.h"

namespace neurogen {
namespace {

// Bytes that are normalised at once: the library sorts combining marks in quadratic time.
constexpr std::size_t kComposed = 1 << 14;

// The patterns as their tokenizers have them (GPT-2's encoder.py; tokenizer.json of Qwen2 and Llama 3).
constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// SmolLM cuts out every digit before GPT-2's pattern sees the parts, each as if nothing followed it: so no space joins a digit, and
// spaces before one stay together.
constexpr std::string_view kSmolLm = R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+)";

std::string_view pattern_of(WordRule rule) {
  switch (rule) {
    case WordRule::gpt2:
      return kGpt2;
    case WordRule::smollm:
      return kSmolLm;
    case WordRule::qwen2:
      return kQwen2;
    case WordRule::llama3:
      return kLlama3;
  }
  return {};
}

// PCRE2's \s contains U+180E, which Unicode's White_Space has not; so it is spelt out, inside of brackets and alone.
std::string with_white_space(std::string_view pattern) {
  static constexpr std::string_view kWhite = R"(\t-\r\x{85}\p{Z})";
  std::string spelt;
  bool bracket = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const std::string_view two = pattern.substr(at, 2);
    if (pattern[at] == '[' || pattern[at] == ']') bracket = pattern[at] == '[';
    if (two == R"(\s)" || two == R"(\S)") {
      spelt += bracket ? std::string(kWhite) : fmt::format("[{}{}]", two == R"(\S)" ? "^" : "", kWhite);
      ++at;
    } else {
      spelt += pattern[at];
    }
  }
  return spelt;
}

// Unicode's White_Space.
bool white(std::int32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool white_at(std::string_view text, std::size_t at) {
  utf8proc_int32_t c = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at, static_cast<utf8proc_ssize_t>(text.size() - at),
                   &c);
  return white(c);
}

bool white_before(std::string_view text, std::size_t at) {
  std::size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return white_at(text.substr(0, at), begin);
}

// Whether nothing before position `at` composes with what follows: Latin letters, Chinese characters and Korean syllables begin
// anew.
bool composes_apart(std::string_view text, std::size_t at) {
  utf8proc_int32_t c = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at, static_cast<utf8proc_ssize_t>(text.size() - at),
                   &c);
  return text[at - 1] == '\n' || (c >= 0 && c < 0x300) || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3);
}

void append_nfc(std::string_view text, std::string& to) {
  if (std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    to += text;
    return;
  }
  utf8proc_uint8_t* composed = nullptr;
  const auto bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, std::free);
  if (bytes < 0) throw Error(fmt::format("text cannot be normalised: {}", utf8proc_errmsg(bytes)), Error::kRunTime);
  to.append(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(bytes));
}

}  // namespace

std::string_view split_pattern(WordRule rule) {
  return rule == WordRule::qwen2 || rule == WordRule::llama3 ? pattern_of(rule) : std::string_view{};
}

WordPattern::WordPattern(WordRule rule) {
  const std::string pattern = with_white_space(pattern_of(rule));
  int error = 0;
  PCRE2_SIZE at = 0;
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED,
                        &error, &at, nullptr);
  if (!code_) throw Error(fmt::format("PCRE2 cannot compile {} (error {} at {})", pattern, error, at), Error::kRunTime);
  pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // where it cannot, matching is slower
}

WordPattern::~WordPattern() { pcre2_code_free(code_); }

Words::Words(const WordPattern& pattern) : code_(pattern.code_), match_(pcre2_match_data_create(1, nullptr)) {
  if (!match_) throw std::bad_alloc();
}

Words::~Words() { pcre2_match_data_free(match_); }

std::size_t Words::length(std::string_view text, std::size_t begin) {
  const int found =
      pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin, PCRE2_NO_UTF_CHECK, match_, nullptr);
  // Any character begins a match; what PCRE2 gives up on, for want of memory, is refused.
  if (found < 0) throw Error(fmt::format("text cannot be cut into words: PCRE2 reports error {}", found), Error::kRunTime);
  const PCRE2_SIZE* const place = pcre2_get_ovector_pointer(match_);
  return place[1] - begin;
}

std::string nfc(std::string_view text) {
  std::string composed;
  while (!text.empty()) {
    std::size_t end = text.size();
    if (end > kComposed) {
      end = kComposed;
      while (end > 0 && !composes_apart(text, end)) --end;
      if (end == 0) end = segment_length(text, kComposed);
    }
    append_nfc(text.substr(0, end), composed);
    text.remove_prefix(end);
  }
  return composed;
}

bool words_end(std::string_view text, std::size_t at) {
  if (text[at] == ' ') return !white_before(text, at);
  return text[at - 1] == '\n' && at > 1 && !white_before(text, at - 1) && !white_at(text, at);
}

}  // namespace neurogen

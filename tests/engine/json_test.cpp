// Untrusted JSON is read safely, and written texts are valid for every JSON reader.
#include "engine/files/json.h"

#include <gtest/gtest.h>

#include "engine/files/one_line.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

using nlohmann::json;

TEST(Json, NestsNoDeeperThanAllowed) {
  for (int levels = 1; levels < 5; ++levels) {
    for (int depth = 1; depth < 200; ++depth) {
      for (const auto& [open, inside, close] : {std::tuple{"[", "1", "]"}, {"{\"a\":", "1", "}"}}) {
        std::string text = inside;
        for (int i = 0; i < depth; ++i) text = open + text + close;
        if (depth <= levels) EXPECT_EQ(parse_json(text, levels, "x"), json::parse(text));
        else EXPECT_ERROR(parse_json(text, levels, "x"), "x: nested too deeply for JSON of " + std::to_string(levels));
      }
    }
    EXPECT_ERROR(parse_json(std::string(1'000'000, '['), levels, "x"), "x: nested too deeply");
  }
}

TEST(Json, HasANameOnceInAnObject) {
  EXPECT_EQ(parse_json(R"([{"a":1},{"a":{"a":2}}])", 3, "x")[1]["a"]["a"], 2);
  EXPECT_ERROR(parse_json(R"({"a":1,"b":{},"a":2})", 3, "x"), "x has the name \"a\" twice");
  EXPECT_ERROR(parse_json(R"([{"b":{"c":1,"c":1}}])", 3, "x"), "the name \"c\" twice");
  for (const char* text : {"", "{", "{}}", "[1,]", "\xFF"}) EXPECT_TRUE(parse_json(text, 3, "x").is_discarded()) << text;
}

TEST(Json, TextsComeBackAndBreakNoLine) {
  std::string all = "\"\\\u00E9\u0085\u2028\u2029\U0001F600";
  for (char c = 0; c < 0x7F; ++c) all += c;
  all += '\x7F';
  const std::string text = json_text(all);
  EXPECT_EQ(json::parse(text), all);
  for (const char* line_end : {"\n", "\r", "\u0085", "\u2028", "\u2029"}) EXPECT_EQ(text.find(line_end), text.npos);
  EXPECT_EQ(json_text("a\xFF\xC3"), "\"a\uFFFD\uFFFD\"");
}

TEST(Json, OneLineHasNoMoreThanWasAskedFor) {
  EXPECT_EQ(one_line("a\nb\x1B[31m\u2028\xFFz", 100), "ab[31m\uFFFDz");
  EXPECT_EQ(one_line("0123456789", 10), "0123456789");
  EXPECT_EQ(one_line("0123456789abcdef", 11), "012 ... def");
  EXPECT_EQ(one_line("\u00E9\u00E9\u00E9\u00E9\u00E9\u00E9\u00E9\u00E9", 11), "\u00E9 ... \u00E9");  // cuts no character in half
}

}  // namespace
}  // namespace neurogen

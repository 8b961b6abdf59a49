// The reader receives whole characters, nothing of a stop text, and in the end every byte.
#include "engine/run/speech.h"

#include <gtest/gtest.h>

#include "engine/data/text.h"

namespace neurogen {
namespace {

using std::string;

// The text shown after each piece and at the end, each in brackets.
string shown(Speech& speech, const std::vector<string>& pieces) {
  string all;
  for (const string& piece : pieces) {
    all += "[" + string(speech.add(piece)) + "]";
    if (speech.stopped()) all += "!";
  }
  return all + "[" + string(speech.finish()) + "]";
}
string shown(const std::vector<string>& stops, const std::vector<string>& pieces) {
  Speech speech(stops, 64);
  return shown(speech, pieces);
}

TEST(Speech, ShowsWholeCharactersAlone) {
  EXPECT_EQ(shown({}, {"a", "b c", "", "d"}), "[a][b c][][d][]");
  EXPECT_EQ(shown({}, {"\xC3", "\xA4", "x"}), "[][ä][x][]");
  EXPECT_EQ(shown({}, {"a\xE2", "\x82",
                       "\xAC"
                       "b"}),
            "[a][][€b][]");
  EXPECT_EQ(shown({}, {"\xF0", "\x9F", "\x98", "\x80"}), "[][][][😀][]");
  EXPECT_EQ(shown({}, {"\xF0\x9F\x98"}), "[][\uFFFD\uFFFD\uFFFD]");        // never completed
  EXPECT_EQ(shown({}, {"\xC3", "a"}), "[][\uFFFDa][]");                    // followed by an unsuitable byte
  EXPECT_EQ(shown({}, {"\x80z", "\xFF"}), "[\uFFFDz][\uFFFD][]");          // starts no character
  EXPECT_EQ(shown({}, {"\xED\xA0", "\x80"}), "[\uFFFD\uFFFD][\uFFFD][]");  // a surrogate
}

TEST(Speech, EndsBeforeAStopHoweverItIsCut) {
  EXPECT_EQ(shown({"END"}, {"one E", "N", "D two"}), "[one ][][]![]");
  EXPECT_EQ(shown({"END"}, {"one E", "N", "X"}), "[one ][][ENX][]");
  EXPECT_EQ(shown({"END"}, {"one EN"}), "[one ][EN]");
  EXPECT_EQ(shown({"END"}, {"EEND"}), "[E]![]");
  EXPECT_EQ(shown({"aab"}, {"a", "a", "a", "b"}), "[][][a][]![]");
  EXPECT_EQ(shown({"\n", "stop"}, {"a sto", "p\n"}), "[a ][]![]");
  EXPECT_EQ(shown({"stop", "\n"}, {"a\nstop"}), "[a]![]");  // the first in the text
  EXPECT_EQ(shown({"\n", "stop"}, {"a\nstop"}), "[a]![]");
  EXPECT_EQ(shown({"€"}, {"x\xE2", "\x82\xAC"}), "[x][]![]");
  EXPECT_EQ(shown({"ä"}, {"x\xC3", "\xB6"}), "[x][ö][]");
  Speech speech({"END"}, 64);
  EXPECT_EQ(shown(speech, {"one END two"}), "[one ]![]");
  EXPECT_EQ(shown(speech, {"a new one"}), "[a new one][]");
}

TEST(Speech, IsUtf8WhateverTheBytesAndTheWholeTextWhereItIsUtf8) {
  std::uint32_t random = 1;
  const auto next = [&] { return (random = random * 1664525 + 1013904223) >> 16; };
  const string text = "Grüße, 世界, and €5 😀 to all — ñandú";
  for (int trial = 0; trial < 3000; ++trial) {
    Speech speech({"\x01stop"}, 64);
    string all, source = text;
    if (trial % 2 == 0) {
      for (char& byte : source) byte = static_cast<char>(next() % 4 == 0 ? next() : byte);
      for (char& byte : source) byte = byte == '\x01' ? 'x' : byte;
    }
    for (std::size_t at = 0; at < source.size();) {
      const std::size_t length = 1 + next() % 5;
      all += speech.add(source.substr(at, length));
      ASSERT_EQ(find_invalid_utf8(all), string::npos);
      at += length;
    }
    all += speech.finish();
    ASSERT_EQ(find_invalid_utf8(all), string::npos);
    if (trial % 2 == 1) {
      ASSERT_EQ(all, text);
    }
  }
}

TEST(IncompleteUtf8, IsWhatSomeContinuationCompletes) {
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b) {
      const string one(1, static_cast<char>(a)), two = one + static_cast<char>(b);
      bool completes_one = false, completes_two = false;
      for (const char* rest : {"\x80\x80", "\xBF\xBF", "\x9F\xBF", "\xA0\x80", "\x8F\x80", "\x90\x80"}) {
        completes_one |= utf8_sequence(one + rest) > 1 || utf8_sequence(one + rest + "\x80") > 1;
        completes_two |= utf8_sequence(two + rest) > 2;
      }
      ASSERT_EQ(incomplete_utf8(one), completes_one) << a;
      ASSERT_EQ(incomplete_utf8(two), completes_two) << a << " " << b;
    }
}

}  // namespace
}  // namespace neurogen

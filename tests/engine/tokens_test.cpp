#include "engine/data/tokens.h"

#include <sys/stat.h>

#include "engine/data/text.h"
#include "engine/data/tokenizer.h"
#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using std::string;

string raw(std::initializer_list<std::uint16_t> ids) {
  string bytes;
  for (const std::uint16_t id : ids) bytes += {static_cast<char>(id & 255), static_cast<char>(id >> 8)};
  return bytes;
}

string header(std::int32_t magic, std::int32_t version, std::int32_t tokens) {
  string bytes(1024, '\0');
  const std::int32_t fields[] = {magic, version, tokens};
  bytes.replace(0, sizeof fields, reinterpret_cast<const char*>(fields), sizeof fields);
  return bytes;
}

std::vector<TokenId> read(const string& path) {
  const TokenFile file(path);
  std::vector<TokenId> ids(file.tokens().size());
  file.tokens().read(0, ids);
  return ids;
}

TEST(TokenFile, ReadsRawTokensAndThoseBehindAnLlmcHeader) {
  const TemporaryDirectory directory;
  const std::vector<TokenId> expected = {1, 256, 65535};
  EXPECT_EQ(read(directory.file("raw.bin", raw({1, 256, 65535}))), expected);
  EXPECT_EQ(read(directory.file("llmc.bin", header(20240520, 1, 3) + raw({1, 256, 65535}))), expected);
  // 32-bit ids; one that no vocabulary has stays out of every one.
  const string wide = header(20240801, 7, 3) + string("\1\0\0\0\0\0\1\0\xFF\xFF\xFF\xFF", 12);
  EXPECT_EQ(read(directory.file("wide.bin", wide)), (std::vector<TokenId>{1, 65536, INT32_MAX}));
  // Another magic number is not a header: these are 512 tokens and three.
  EXPECT_EQ(read(directory.file("other.bin", header(20240521, 1, 3) + raw({1, 256, 65535}))).size(), 515u);
}

TEST(TokenFile, RefusesWhatIsNoTokenFileAndNamesIt) {
  const TemporaryDirectory directory;
  EXPECT_ERROR(TokenFile(directory.path("none.bin")), directory.path("none.bin"), "does not exist");
  EXPECT_ERROR(TokenFile(directory.path("")), "is a directory");
  EXPECT_ERROR(TokenFile(directory.path("none/none.bin")), "does not exist");
  EXPECT_ERROR(TokenFile("/dev/null"), "/dev/null is not a regular file");
  EXPECT_ERROR(TokenFile(directory.file("empty.bin", "")), directory.path("empty.bin"), "is empty");
  EXPECT_ERROR(TokenFile(directory.file("odd.bin", "abc")), directory.path("odd.bin"), "odd number of bytes (3)");
  EXPECT_ERROR(TokenFile(directory.file("v7.bin", header(20240520, 7, 1) + raw({1, 0}))), "version 7");
  EXPECT_ERROR(TokenFile(directory.file("w1.bin", header(20240801, 1, 1) + raw({1, 0}))), "version 1", "only version 7, of 32-bit");
  EXPECT_ERROR(TokenFile(directory.file("w2.bin", header(20240801, 7, 2) + raw({1, 0}))), "has 2 tokens according to its header");
  EXPECT_ERROR(TokenFile(directory.file("cut.bin", header(20240520, 1, 3) + raw({1, 2}))), "has 3 tokens according to its header",
               "4 bytes");
  EXPECT_ERROR(TokenFile(directory.file("long.bin", header(20240520, 1, 1) + raw({1, 2}))), "has 1 tokens according to its header");
  EXPECT_ERROR(TokenFile(directory.file("none2.bin", header(20240520, 1, 0))), "has 0 tokens according to its header");
  ASSERT_EQ(mkfifo(directory.path("pipe.bin").c_str(), 0600), 0);
  EXPECT_ERROR(TokenFile(directory.path("pipe.bin")), "is not a regular file");
}

TEST(TokenFile, KnowsOtherFilesByTheirFirstBytes) {
  const TemporaryDirectory directory;
  const string rest(2000, 'x');
  for (const auto& [magic, what] : {std::pair{string("\x93NUMPY"), "a NumPy array"},
                                    {string("PK\3\4"), "a zip archive"},
                                    {string("\x1F\x8B\x08"), "gzip"},
                                    {string("\xFD"
                                            "7zXZ\0",
                                            6),
                                     "xz"},
                                    {string("\x28\xB5\x2F\xFD"), "zstd"},
                                    {string("GGUF"), "a GGUF file"}}) {
    EXPECT_ERROR(TokenFile(directory.file("other.bin", magic + rest)), "other.bin is ", what, "corpus tokenize");
  }
}

TEST(TokenFile, KnowsItsTokenizerFromTheManifestBeside) {
  const TemporaryDirectory directory;
  directory.file("a.json", R"({"tokenizer": {"path": "my.model", "xxh3": "0123456789abcdef"}})");
  for (const char* part : {"a-train.bin", "a-valid.bin"}) {
    EXPECT_EQ(noted_tokenizer(directory.path(part)).hash, "0123456789abcdef");
    EXPECT_EQ(noted_tokenizer(directory.path(part)).path, "my.model");
  }
  for (const char* other : {"a.bin", "a.json", "none-train.bin", "-train.bin", ""})
    EXPECT_EQ(noted_tokenizer(directory.path(other)).hash, "");
  for (const string& damaged : {string(), string("{"), string("[]"), string("7"), string(R"({"tokenizer": 7})"),
                                string(R"({"tokenizer": {"xxh3": 7}})"), R"({"tokenizer": )" + string(1'000'000, '[')}) {
    directory.file("a.json", damaged);
    EXPECT_EQ(noted_tokenizer(directory.path("a-train.bin")).hash, "") << damaged.substr(0, 40);
  }
}

TEST(Tokens, AreOneStreamAcrossFilesAndTexts) {
  const TemporaryDirectory directory;
  const string line = "to be or not to be\n";
  std::string_view rest = line;
  const auto held =
      read_tokenizer(directory.file("t.model", train_tokenizer([&] { return std::exchange(rest, {}); }, 268, "text")));
  const Tokenizer& tokenizer = *held;
  const Tokens tokens(
      {directory.file("a.bin", raw({7, 8, 9})), directory.file("b.txt", line), directory.file("c.bin", raw({10, 11}))}, &tokenizer);
  std::vector<std::int32_t> expected = {7, 8, 9};
  const auto middle = tokenizer.encode(line);
  expected.insert(expected.end(), middle.begin(), middle.end());
  expected.insert(expected.end(), {10, 11});
  ASSERT_EQ(tokens.size(), static_cast<std::int64_t>(expected.size()));
  for (std::size_t begin = 0; begin < expected.size(); ++begin) {
    for (std::size_t count = 0; begin + count <= expected.size(); ++count) {
      std::vector<std::int32_t> part(count, -1);
      tokens.read(static_cast<std::int64_t>(begin), part);
      ASSERT_TRUE(std::equal(part.begin(), part.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin)))
          << begin << " + " << count;
    }
  }
}

TEST(Tokens, SayWhatIsMissing) {
  const TemporaryDirectory directory;
  const string text = directory.file("a.txt", "text\n"), bin = directory.file("a.bin", raw({3, 4095, 4096, 9}));
  EXPECT_ERROR(Tokens({}, nullptr), "no file");
  EXPECT_ERROR(Tokens({text}, nullptr), text, "give tokenizer FILE");
  EXPECT_ERROR(Tokens({directory.file("latin.txt", "caf\xE9\n")}, nullptr), "is not UTF-8 text at byte 3");
  const Tokens tokens({bin}, nullptr);
  EXPECT_NO_THROW(tokens.check_vocabulary(4097));
  EXPECT_ERROR(tokens.check_vocabulary(4096), bin, "token 4096 at position 2", "the vocabulary has 4096");
}

TEST(Windows, NeedOneTokenMoreThanTheyHave) {
  EXPECT_EQ(windows(0, 4), 0);
  EXPECT_EQ(windows(1, 4), 0);
  EXPECT_EQ(windows(4, 4), 0);
  EXPECT_EQ(windows(5, 4), 1);
  EXPECT_EQ(windows(8, 4), 1);
  EXPECT_EQ(windows(9, 4), 2);
}

TEST(Utf8, KnowsWellFormedSequences) {
  EXPECT_EQ(find_invalid_utf8("a\u00E9\u20AC\U0001F600\U0010FFFF\uD7FF\uE000"), string::npos);
  EXPECT_EQ(find_invalid_utf8(string("a\0b", 3)), string::npos);
  for (const char* wrong : {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                            "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xC3(", "\xE2\x82("}) {
    EXPECT_EQ(find_invalid_utf8(string("ok ") + wrong), 3u) << wrong;
  }
}

string all_of(TextStream& stream) {
  string all;
  for (std::string_view text; !(text = stream.next()).empty();) {
    EXPECT_EQ(find_invalid_utf8(text), string::npos);
    all += text;
  }
  return all;
}

// A stream reads pieces of a mebibyte: characters and invalid bytes cross their borders at every offset.
TEST(TextStreams, KnowCharactersAcrossBorders) {
  const TemporaryDirectory directory;
  constexpr std::size_t kPiece = 1 << 20;
  for (std::size_t before = kPiece - 4; before <= kPiece + 1; ++before) {
    for (const string middle : {"\U0001F600", "\u20AC", "\u00E9", "\U0001F600\u20AC\u00E9"}) {
      const string text = string(before, 'a') + middle + "end";
      TextStream stream(directory.file("text", text), before % 2);
      EXPECT_TRUE(all_of(stream) == text) << before << middle;
      EXPECT_EQ(stream.replaced(), 0u);
    }
    struct Wrong {
      string bytes, replaced;
    };
    // The examples of the Unicode Standard's table 3-8 and neighbouring ones: one U+FFFD per maximal subpart of a character.
    for (const Wrong& wrong : {Wrong{"\xFF", "\uFFFD"},
                               {"\x80", "\uFFFD"},
                               {"\xE2\x82(", "\uFFFD("},
                               {"\xF0\x9F\x98", "\uFFFD"},
                               {"\xC0\xAF", "\uFFFD\uFFFD"},
                               {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
                               {"\xE2\x82\xF0\x9F\x98\xC3", "\uFFFD\uFFFD\uFFFD"}}) {
      for (const string end : {"", "z", "\u20AC"}) {
        const string path = directory.file("text", string(before, 'a') + wrong.bytes + end);
        TextStream replacing(path, true), refusing(path, false);
        EXPECT_EQ(all_of(replacing).substr(before), wrong.replaced + end) << before << end;
        EXPECT_EQ(replacing.replaced(), (wrong.replaced.size() - (wrong.replaced.back() == '(')) / 3);
        EXPECT_ERROR(all_of(refusing), path + " is not UTF-8 text at byte " + std::to_string(before) + ":", "replace_invalid");
      }
    }
  }
}

TEST(TextStreams, SayWhatCannotBeRead) {
  const TemporaryDirectory directory;
  TextStream empty(directory.file("empty", ""), false);
  EXPECT_EQ(empty.next(), "");
  EXPECT_EQ(empty.next(), "");
  EXPECT_ERROR(TextStream(directory.path("none"), false), "none does not exist");
  EXPECT_ERROR(TextStream(directory.path(""), false), "is a directory: name a file in it");
}

TEST(SplitLines, HoldsOutTheLastOnes) {
  const auto parts = split_lines("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", 0.1, "x");
  EXPECT_EQ(parts.second, "10\n");
  EXPECT_EQ(split_lines("1\n2\n3\n4\n5\n6\n7\n8\n9\n10", 0.25, "x").second, "8\n9\n10");
  EXPECT_EQ(split_lines("1\n2", 0.001, "x"), (std::pair<std::string_view, std::string_view>("1\n", "2")));
  EXPECT_ERROR(split_lines("1\n", 0.1, "x.txt"), "x.txt has 1 line,");
  EXPECT_ERROR(split_lines("1\n2\n", 0.9, "x.txt"), "x.txt has 2 lines");
}

TEST(Tokens, HaveAHashThatKnowsNoFiles) {
  const TemporaryDirectory directory;
  const auto hash = [&](const string& first, const string& second) {
    return Tokens({directory.file("a.bin", first), directory.file("b.bin", second)}, nullptr).hash();
  };
  EXPECT_EQ(hash(raw({1, 2, 3}), raw({4})), hash(raw({1}), raw({2, 3, 4})));
  EXPECT_NE(hash(raw({1, 2, 3}), raw({4})), hash(raw({1, 2, 3}), raw({5})));
  EXPECT_NE(hash(raw({1, 2, 3}), raw({4})), hash(raw({1, 2}), raw({4})));
}

TEST(Tokens, AMaskTakesTargetsOut) {
  const TemporaryDirectory directory;
  const string a = directory.file("a.bin", raw({1, 2, 3})), b = directory.file("b.bin", raw({4, 5}));
  const std::uint64_t before = Tokens({a, b}, nullptr).hash();
  EXPECT_FALSE(Tokens({a, b}, nullptr).masked());
  directory.file("b.mask", string("\0\1", 2));
  const Tokens tokens({a, b}, nullptr);
  EXPECT_TRUE(tokens.masked());
  std::vector<TokenId> ids(4);
  tokens.read_targets(1, ids);
  EXPECT_EQ(ids, (std::vector<TokenId>{2, 3, kNoToken, 5}));
  tokens.read(1, ids);
  EXPECT_EQ(ids, (std::vector<TokenId>{2, 3, 4, 5}));
  EXPECT_NE(tokens.hash(), before);
  directory.file("b.mask", "abc");
  EXPECT_ERROR(Tokens({a, b}, nullptr), "b.mask is for 3 tokens", "b.bin has 2");
  directory.file("b.mask", string(2, '\0'));
  EXPECT_ERROR(Tokens({a, b}, nullptr), "b.mask has no token to learn");
}

// Also in a text that is checked at sampled places only.
TEST(Tokens, NameTheFileThatHasATokenOutsideTheVocabulary) {
  const TemporaryDirectory directory;
  const string long_file = directory.file("long.bin", ""), last = directory.file("last.bin", raw({1, 2, 300, 3}));
  EXPECT_ERROR(Tokens({last}, nullptr).check_vocabulary(300), "last.bin has token 300 at position 2, but the vocabulary has 300");
  std::error_code error;
  std::filesystem::resize_file(long_file, static_cast<std::uintmax_t>(kReadWhole) + 2, error);
  if (error) GTEST_SKIP() << "no room: " << error.message();
  EXPECT_ERROR(Tokens({long_file, last}, nullptr).check_vocabulary(300), "last.bin has token 300 at position 2,");
  EXPECT_ERROR(Tokens({last, long_file}, nullptr).check_vocabulary(300), "last.bin has token 300 at position 2,");
}

}  // namespace
}  // namespace neurogen

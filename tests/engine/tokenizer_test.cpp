#include "engine/data/tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <random>
#include <set>
#include <sstream>
#include <unordered_map>

#include "engine/data/segment.h"
#include "engine/data/sentencepiece_model.h"
#include "engine/data/text.h"
#include "engine/run/foreign_tokenizer.h"
#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using std::string;

// A few hundred invented words, one per line: enough to train on.
string make_text(int lines) {
  const char* syllables[] = {"ba", "ko", "ri", "stu", "men", "lo", "thar", "ek"};
  std::mt19937 random(7);
  string text;
  for (int line = 0; line < lines; ++line) {
    for (int word = 0; word < 9; ++word) {
      for (auto n = random() % 3 + 1; n > 0; --n) text += syllables[random() % 8];
      text += word == 8 ? ".\n" : " ";
    }
  }
  return text;
}

// Encodes the text in pieces of this many bytes.
string train(const string& text, std::int64_t vocabulary, std::size_t piece = 1 << 20) {
  std::string_view rest = text;
  const auto next_text = [&] {
    const std::string_view part = rest.substr(0, piece);
    rest.remove_prefix(part.size());
    return part;
  };
  return train_tokenizer(next_text, vocabulary, "text");
}

class TokenizerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = new string(train(make_text(300), 400)); }
  static void TearDownTestSuite() { delete model_; }

  void expect_unchanged(const string& text) const {
    const string back = tokenizer_.decode(tokenizer_.encode(text));
    EXPECT_EQ(back.size(), text.size());
    EXPECT_TRUE(back == text) << text.substr(0, 200);
  }

  const Tokenizer& open(const string& path) { return *opened_.emplace_back(read_tokenizer(path)); }

  static string* model_;
  TemporaryDirectory directory_;
  std::vector<std::unique_ptr<Tokenizer>> opened_;
  const Tokenizer& tokenizer_ = open(directory_.file("t.model", *model_));
};
string* TokenizerTest::model_ = nullptr;

TEST_F(TokenizerTest, AnyTextComesBackByteForByte) {
  for (const char* text : {"", "\n", "\n\n\n", " ", "  two  spaces ", "\ttab\t", "no newline", "crlf\r\n", " \n \n", "ba ko ri.\n",
                           "\u2581", "a\u2581\u2581 b\u2581\n", " \u2581 ", "\u2585\u2047\uFEFF\uFFFD", "</s><s><unk> <0x41> <pad>",
                           "caf\u00E9 \u4E2D\u6587 \U0001F600\U0010FFFF", "e\u0301 \u00A0\u2003\u3000\u2028", "\x01\x7F\x1B"}) {
    expect_unchanged(text);
  }
  expect_unchanged(string("nul \0 nul\n\0", 11));
}

// However a text is cut into pieces, the ids are those of the whole: lines, literal U+2581, and runs of just 64 KiB.
TEST_F(TokenizerTest, PiecesOfATextGiveTheIdsOfTheWhole) {
  std::mt19937 random(3);
  string text;
  for (int i = 0; i < 40; ++i) {
    const char* parts[] = {"ba ko", "ristu ", "\n", "\u2581", "\u4E2D", " "};
    for (auto n = random() % 50; n > 0; --n) text += parts[random() % 6];
    if (i % 4 == 0) text += string(65530 + random() % 12, random() % 3 == 0 ? ' ' : 'b') + parts[random() % 6];
  }
  const auto whole = tokenizer_.encode(text);
  for (const std::size_t longest : {7, 3000, 100'000, 300'000}) {
    std::vector<TokenId> ids;
    string waiting;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = longest == 7 && at > 5000 ? text.size() : 1 + random() % longest;
      waiting += text.substr(at, size);
      at += size;
      waiting.erase(0, tokenizer_.encode_some(waiting, false, ids));
      EXPECT_LE(waiting.size(), 65536u + 3);
    }
    EXPECT_EQ(tokenizer_.encode_some(waiting, true, ids), waiting.size());
    EXPECT_TRUE(ids == whole) << longest;
  }
}

TEST_F(TokenizerTest, RandomTextComesBackByteForByte) {
  std::mt19937 random(1);
  const char32_t ranges[] = {0x80, 0x800, 0x3000, 0x110000};
  for (int trial = 0; trial < 300; ++trial) {
    string text;
    for (int i = 0; i < 60; ++i) {
      const char32_t c = random() % ranges[random() % 4];
      if (c < 0x80) text += static_cast<char>(c);
      else if (c < 0x800) text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
      else if (c < 0x10000 && (c < 0xD800 || c > 0xDFFF))
        text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
      else text += random() % 2 ? "\n" : " ";
    }
    ASSERT_EQ(find_invalid_utf8(text), string::npos);
    expect_unchanged(text);
  }
}

TEST_F(TokenizerTest, ALineAsLongAsABookComesBack) {
  string line;
  for (int i = 0; i < 30000; ++i) line += i % 7 ? "bakori " : "\u20AC  ";
  ASSERT_GT(line.size(), 3u * 65536);
  expect_unchanged(line);
  expect_unchanged(string(100000, 'x') + "\u20AC\u20AC\n");
  string euros;
  for (int i = 0; i < 50000; ++i) euros += "\u20AC";  // 65,536 is no multiple of 3: a cut must not fall into a character
  expect_unchanged(euros);
}

TEST_F(TokenizerTest, EveryNewlineIsOneEndOfLine) {
  EXPECT_EQ(tokenizer_.line_end(), 3);
  EXPECT_EQ(tokenizer_.encode("\n\n"), (std::vector<TokenId>{3, 3}));
  const auto open = tokenizer_.encode("ba ko"), closed = tokenizer_.encode("ba ko\n");
  EXPECT_EQ(closed.size(), open.size() + 1);
  EXPECT_EQ(closed.back(), 3);
  EXPECT_EQ(std::count(open.begin(), open.end(), 3), 0);
}

TEST_F(TokenizerTest, PiecesHaveTheirBytes) {
  EXPECT_EQ(tokenizer_.vocabulary(), 400);
  EXPECT_EQ(tokenizer_.piece_bytes(0), "\uFFFD");  // <unk>
  EXPECT_EQ(tokenizer_.piece_bytes(1), "");        // <s>
  EXPECT_EQ(tokenizer_.piece_bytes(2), "");        // </s>
  EXPECT_EQ(tokenizer_.piece_bytes(3), "\n");
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer_.piece_bytes(static_cast<TokenId>(4 + byte)), string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(tokenizer_.piece_bytes(400), "");
  EXPECT_EQ(tokenizer_.piece_bytes(65535), "");
  EXPECT_EQ(tokenizer_.pieces().offsets.size(), 401u);
  EXPECT_EQ(tokenizer_.pieces().offsets.back(), tokenizer_.pieces().bytes.size());
}

TEST_F(TokenizerTest, CompressesWhatItWasTrainedOn) {
  const string text = make_text(50);
  EXPECT_LT(tokenizer_.encode(text).size() * 2, text.size());
}

TEST_F(TokenizerTest, TrainingIsDeterministicAndTheHashKnowsTheModel) {
  EXPECT_EQ(train(make_text(300), 400), *model_);
  const string other = train(make_text(300), 401);
  EXPECT_NE(other, *model_);
  EXPECT_EQ(read_tokenizer(directory_.file("same.model", *model_))->hash(), tokenizer_.hash());
  EXPECT_EQ(tokenizer_.document_end(), 2);
  EXPECT_EQ(tokenizer_.piece_bytes(2), "");
  EXPECT_NE(read_tokenizer(directory_.file("other.model", other))->hash(), tokenizer_.hash());
}

// Ids from SentencePiece itself, in any language, equal those that a brain was trained on.
TEST_F(TokenizerTest, SentencePieceItselfGivesTheSameIdsAndTheTextBack) {
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(*model_).ok());
  string lines = make_text(50), long_line;
  for (std::size_t at = 0; (at = lines.find('\n', at)) != string::npos; at += 2) lines.replace(at, 1, "\r\n");
  for (int i = 0; i < 30000; ++i) long_line += i % 7 ? "bakori " : "\u20AC  ";
  std::mt19937 random(5);
  string mixed;
  const char* parts[] = {"ba", " ", "\n", "\r\n", "\t", "ko ri", "\u2585", "\u2047", "\uFEFF", "\uFFFD", "</s>", "<0x0A>", "\x01"};
  for (int i = 0; i < 3000; ++i) mixed += parts[random() % std::size(parts)];
  for (const string& text :
       {string(), string("\n"), string("\n\n\n"), string(" \n \n"), string("  ba  \n\tko\n"), string("\r\n\r\n"),
        string("a\0b\n\0", 5), string("caf\u00E9 \u4E2D\u6587 \U0001F600\n"), make_text(50), lines, long_line, mixed}) {
    std::vector<int> ids;
    string back;
    ASSERT_TRUE(library.Encode(text, &ids).ok());
    ASSERT_TRUE(library.Decode(ids, &back).ok());
    const auto ours = tokenizer_.encode(text);
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), ours.begin(), ours.end())) << text.substr(0, 100);
    EXPECT_TRUE(back == text) << text.substr(0, 100);
  }
}

// A model that SentencePiece trains with these options, on this text.
string others_model(std::unordered_map<string, string> options, const string& text) {
  class Lines : public sentencepiece::SentenceIterator {
   public:
    explicit Lines(const string& text) : in_(text) { Next(); }
    bool done() const override { return done_; }
    void Next() override { done_ = !std::getline(in_, line_); }
    const string& value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    std::istringstream in_;
    string line_;
    bool done_ = false;
  } lines(text);
  options.merge(
      std::unordered_map<string, string>{{"model_type", "bpe"}, {"minloglevel", "2"}, {"normalization_rule_name", "identity"}});
  string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
  EXPECT_TRUE(status.ok()) << status.message();
  return model;
}

TEST_F(TokenizerTest, OthersModelsEndALineAsTheyEncodeIt) {
  const string text = make_text(300);
  const Tokenizer& bytes = open(directory_.file("b.model", others_model({{"byte_fallback", "true"}, {"vocab_size", "400"}}, text)));
  EXPECT_EQ(bytes.line_end(), 3 + '\n');
  EXPECT_EQ(bytes.piece_bytes(bytes.line_end()), "\n");
  EXPECT_EQ(bytes.encode("\n\n"), (std::vector<TokenId>(2, 3 + '\n')));
  const Tokenizer& piece =
      open(directory_.file("p.model", others_model({{"user_defined_symbols", "\n"}, {"vocab_size", "100"}}, text)));
  EXPECT_EQ(piece.line_end(), 3);
  EXPECT_ERROR(read_tokenizer(directory_.file("n.model", others_model({{"vocab_size", "100"}}, text))),
               "n.model has no piece for a line end", "corpus train-tokenizer");
  const Tokenizer& endless = open(
      directory_.file("e.model", others_model({{"user_defined_symbols", "\n"}, {"vocab_size", "100"}, {"eos_id", "-1"}}, text)));
  EXPECT_EQ(endless.document_end(), -1);
}

TEST_F(TokenizerTest, ItsPiecesAreThoseOfTheLibrary) {
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(*model_).ok());
  const auto found = plain_sentence_pieces(*model_);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->pieces.size(), 400u);
  std::set<std::int32_t> kinds;
  for (int id = 0; id < 400; ++id) {
    const auto at = static_cast<std::size_t>(id);
    EXPECT_EQ(found->pieces[at], library.IdToPiece(id));
    EXPECT_EQ(found->scores[at], library.GetScore(id));
    EXPECT_EQ(found->kinds[at], library.IsUnknown(id)           ? 2
                                : library.IsControl(id)         ? 3
                                : library.IdToPiece(id) == "\n" ? 4
                                : library.IsByte(id)            ? 6
                                                                : 1)
        << id;
    kinds.insert(found->kinds[at]);
  }
  EXPECT_EQ(kinds, (std::set<std::int32_t>{1, 2, 3, 4, 6}));
  // Any part of a file ends somewhere.
  for (std::size_t size = 0; size < model_->size(); size += 7) plain_sentence_pieces(model_->substr(0, size));
}

TEST_F(TokenizerTest, AModelOfItsPiecesCutsATextAlike) {
  const auto pieces = plain_sentence_pieces(*model_);
  const string model = sentencepiece_model(*pieces);
  const auto again = plain_sentence_pieces(model);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->pieces, pieces->pieces);
  EXPECT_EQ(again->scores, pieces->scores);
  EXPECT_EQ(again->kinds, pieces->kinds);
  const auto tokenizer = tokenizer_of(model, "again");
  EXPECT_EQ(tokenizer->document_end(), tokenizer_.document_end());
  for (const string& text : {make_text(50), string("  odd \u4E2D\n\n</s>"), string()})
    EXPECT_EQ(tokenizer->encode(text), tokenizer_.encode(text));
  SentencePieces damaged = *pieces;
  damaged.pieces[300] = damaged.pieces[301];
  EXPECT_ERROR(tokenizer_of(sentencepiece_model(damaged), "damaged"), "damaged is not a SentencePiece model");
}

// Flips a bit in a GGUF file with these pieces: it is read, or refused with a sentence.
TEST_F(TokenizerTest, PiecesInAGgufFileMayBeHostile) {
  const string path = directory_.path("pieces.gguf");
  write_gguf(path, foreign_tokenizer(&tokenizer_).metadata, {});
  EXPECT_EQ(read_tokenizer(path)->encode("ba ko ri.\n"), tokenizer_.encode("ba ko ri.\n"));
  string bytes = read_file(path);
  int read = 0, refused = 0;
  for (std::size_t at = 0; at < bytes.size(); at += 5) {
    bytes[at] = static_cast<char>(bytes[at] ^ 1 << at % 8);
    directory_.file("pieces.gguf", bytes);
    try {
      const auto tokenizer = read_tokenizer(path);
      for (const TokenId id : tokenizer->encode("ba ko <s> \u4E2D\n")) EXPECT_LT(id, tokenizer->vocabulary());
      ++read;
    } catch (const Error& error) {
      EXPECT_EQ(string(error.what()).find(path), 0u) << error.what();
      ++refused;
    }
    bytes[at] = static_cast<char>(bytes[at] ^ 1 << at % 8);
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 100);
}

TEST_F(TokenizerTest, PiecesOfATextThatIsChangedFirstAreNotPlain) {
  const std::unordered_map<string, string> plain = {{"vocab_size", "100"},
                                                    {"hard_vocab_limit", "false"},
                                                    {"user_defined_symbols", "\n"},
                                                    {"add_dummy_prefix", "false"},
                                                    {"remove_extra_whitespaces", "false"}};
  const auto is_plain = [&](const string& option, const string& value) {
    auto options = plain;
    options[option] = value;
    return plain_sentence_pieces(others_model(options, make_text(300))).has_value();
  };
  EXPECT_TRUE(is_plain("vocab_size", "100"));
  EXPECT_FALSE(is_plain("add_dummy_prefix", "true"));
  EXPECT_FALSE(is_plain("remove_extra_whitespaces", "true"));
  EXPECT_FALSE(is_plain("normalization_rule_name", "nmt_nfkc"));
  EXPECT_FALSE(is_plain("model_type", "unigram"));
}

TEST_F(TokenizerTest, ASpaceComesBackHoweverRare) {
  string text = make_text(3000);
  std::erase(text, ' ');
  for (const string& some : {text, text + "ba ko\n"}) {
    const Tokenizer& ours = open(directory_.file("ours.model", train(some, 400)));
    EXPECT_EQ(ours.encode(" ").size(), 1u);
    EXPECT_EQ(ours.decode(ours.encode(" ba  ko ")), " ba  ko ");
    // SentencePiece encodes a space without a piece as the bytes of U+2581.
    const Tokenizer& other = open(directory_.file("other.model", others_model({{"byte_fallback", "true"},
                                                                               {"vocab_size", "400"},
                                                                               {"add_dummy_prefix", "false"},
                                                                               {"remove_extra_whitespaces", "false"},
                                                                               {"character_coverage", "0.9995"}},
                                                                              some)));
    EXPECT_EQ(other.decode(other.encode(" ba  ko \u2581\n")), " ba  ko \u2581\n");
  }
}

// Training accepts lines with any content.
TEST_F(TokenizerTest, LearnsFromLinesWithAnyCharacter) {
  for (const string& odd : {string("\u2585"), string("\u2581"), string("\u2047"), string("\uFFFD"), string("\uFEFF"), string("\t"),
                            string("\0", 1), string("\r"), string("\u2028")}) {
    string text = make_text(20);
    for (int i = 0; i < 1000; ++i) text += odd + " komelo thustu " + odd + odd + "\n";
    const Tokenizer& tokenizer = open(directory_.file("odd.model", train(text, 300)));
    EXPECT_EQ(tokenizer.encode(" komelo").size(), 1u) << odd;
    EXPECT_EQ(tokenizer.encode(" thustu").size(), 1u) << odd;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST_F(TokenizerTest, TrainsOnOneEndlessLine) {
  string text = make_text(300);
  std::replace(text.begin(), text.end(), '\n', ' ');
  const Tokenizer& tokenizer = open(directory_.file("line.model", train(text, 400)));
  EXPECT_EQ(tokenizer.vocabulary(), 400);
}

TEST_F(TokenizerTest, LearnsTheSameFromATextInPieces) {
  const string long_line(3000, 'k');
  for (const string& text :
       {make_text(300), make_text(100) + long_line + " ba " + long_line + "\n" + make_text(50) + "ends without a line end",
        long_line.substr(0, 1023) + "\u2585ba\u2585" + long_line.substr(0, 1022) + "\u2585\u2585\n" + make_text(300)}) {
    const string whole = train(text, 400);
    for (const std::size_t piece : {1, 7, 1000, 1024, 1025}) EXPECT_EQ(train(text, 400, piece), whole) << piece;
  }
}

// With more lines than are held, the last ones count as much as the first.
TEST_F(TokenizerTest, DrawsFromALongerText) {
  int lines = 0;
  const auto next_text = [&]() -> std::string_view {
    if (lines == 2 * kTokenizerLines) return {};
    lines += 1000;
    static const string first = [] {
      string s;
      for (int i = 0; i < 1000; ++i) s += "komelo\n";
      return s;
    }();
    static const string last = [] {
      string s;
      for (int i = 0; i < 1000; ++i) s += "thustu\n";
      return s;
    }();
    return lines <= kTokenizerLines ? first : last;
  };
  const Tokenizer& tokenizer = open(directory_.file("long.model", train_tokenizer(next_text, 280, "text")));
  EXPECT_EQ(lines, 2 * kTokenizerLines);
  EXPECT_EQ(tokenizer.encode("komelo").size(), 1u);
  EXPECT_EQ(tokenizer.encode("thustu").size(), 1u);
}

TEST_F(TokenizerTest, SaysWhatEndsItsText) {
  int pieces = 0;
  const auto next_text = [&]() -> std::string_view {
    if (++pieces == 3) throw Error("the disk is on fire");
    return "hello there\n";
  };
  EXPECT_ERROR(train_tokenizer(next_text, 300, "text"), "the disk is on fire");
}

TEST_F(TokenizerTest, SaysWhyItCannotTrain) {
  EXPECT_ERROR(train("hello there\nhello world\n", 4096), "text is too small for 4096 pieces", "a vocabulary of at most ");
  EXPECT_ERROR(train("hello there\n", 259), "a vocabulary of 259 is too small", "give at least ");
  EXPECT_ERROR(train("\n\n", 300), "give more text");
  EXPECT_ERROR(train("hello\n", 65537), "65537", "choose 1 to 65536");
  EXPECT_ERROR(train("hello\n", 0), "a vocabulary of 0");
}

TEST_F(TokenizerTest, RefusesWhatIsNoModel) {
  EXPECT_ERROR(read_tokenizer(directory_.path("none.model")), "none.model does not exist");
  EXPECT_ERROR(read_tokenizer(directory_.path("")), "tokenizer.json does not exist");
  EXPECT_ERROR(read_tokenizer(directory_.file("empty.model", "")), "empty.model is not a SentencePiece model");
  EXPECT_ERROR(read_tokenizer(directory_.file("text.model", make_text(3))), "is not a SentencePiece model");
  std::mt19937 random(3);
  for (std::size_t cut = 1; cut < model_->size(); cut += 1 + random() % 97) {  // cut short: refused or a smaller model, no crash
    try {
      const Tokenizer& tokenizer = open(directory_.file("cut.model", model_->substr(0, cut)));
      EXPECT_LE(tokenizer.vocabulary(), 400);
    } catch (const Error& error) {
      EXPECT_NE(string(error.what()).find("cut.model"), string::npos);
    }
  }
}

TEST(SegmentLength, CutsBeforeASpaceElseBetweenCharacters) {
  EXPECT_EQ(segment_length("abc", 8), 3u);
  EXPECT_EQ(segment_length("ab cd ef", 5), 5u);
  EXPECT_EQ(segment_length("ab cd ef", 4), 2u);
  EXPECT_EQ(segment_length(" abcdefgh", 4), 4u);
  EXPECT_EQ(segment_length("\u20AC\u20AC\u20AC", 4), 3u);
  EXPECT_EQ(segment_length("\U0001F600\U0001F600", 7), 4u);
}

}  // namespace
}  // namespace neurogen

// The program corpus, run as a user runs it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/data/tokenizer.h"
#include "engine/data/tokens.h"
#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class CorpusTest : public testing::Test {
 protected:
  using Result = ProgramResult;
  // Runs `corpus ARGUMENTS` inside the directory.
  Result run(const string& arguments) const { return run_program_in(directory_, "corpus " + arguments); }
  // Expects one line on standard error, "corpus: ...sentence...", nothing on standard output, and no new file.
  void refuses(const string& arguments, const string& sentence, int status = 2) const {
    const std::size_t files = directory_.files();
    const Result result = run(arguments);
    EXPECT_EQ(result.status, status) << arguments;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err.rfind("corpus: ", 0), 0u) << result.err;
    EXPECT_NE(result.err.find(sentence), string::npos) << result.err << "lacks: " << sentence;
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
    EXPECT_EQ(directory_.files(), files) << arguments;
  }
  string at(const string& name) const { return directory_.path(name); }

  CorpusTest() {
    for (int i = 0; i < 200; ++i)
      text_ += "the " + std::to_string(i) + "th line of the text has the number " + std::to_string(i) + "\n";
    directory_.file("text.txt", text_);
  }
  void train() const { ASSERT_EQ(run("train-tokenizer text.txt --vocabulary 300 --out t.model").status, 0); }

  TemporaryDirectory directory_;
  string text_;
};

// More than 65,536 pieces: 32-bit ids behind llm.c's header.
TEST_F(CorpusTest, WritesWideTokensForALargeVocabulary) {
  auto golden = nlohmann::json::parse(read_file(source_folder() + "/tests/golden/byte-level.json"))["tokenizer"];
  for (int id = 503; id < 66'000; ++id)
    golden["added_tokens"].push_back({{"id", id}, {"content", "<" + std::to_string(id) + ">"}, {"special", false}});
  directory_.file("large.json", golden.dump());
  directory_.file("wide.txt", text_ + "<65999>\n");
  const auto tokenizer = read_tokenizer(at("large.json"));
  ASSERT_EQ(run("tokenize wide.txt --tokenizer large.json --out all.bin").status, 0);
  const Tokens all({at("all.bin")}, nullptr), direct({at("wide.txt")}, tokenizer.get());
  EXPECT_EQ(all.all(), tokenizer->encode(text_ + "<65999>\n"));
  EXPECT_EQ(all.hash(), direct.hash());
  EXPECT_EQ(std::filesystem::file_size(at("all.bin")), 1024u + 4 * static_cast<std::size_t>(all.size()));
  EXPECT_EQ(read_file(at("all.bin")).substr(0, 4), std::string("\xA1\xD9\x34\x01", 4));  // 20240801

  ASSERT_EQ(run("make wide.txt --tokenizer large.json --out c --held-out 0.25").status, 0);
  const Tokens train({at("c-train.bin")}, nullptr), valid({at("c-valid.bin")}, nullptr);
  EXPECT_EQ(tokenizer->decode(train.all()) + tokenizer->decode(valid.all()), text_ + "<65999>\n");
  const auto manifest = nlohmann::json::parse(read_file(at("c.json")));
  EXPECT_EQ(manifest["valid"]["xxh3"], fmt::format("{:016x}", valid.hash()));
  EXPECT_EQ(manifest["valid"]["tokens"], valid.size());
}

TEST_F(CorpusTest, TrainsTokenisesAndSplits) {
  const Result trained = run("train-tokenizer text.txt --vocabulary 300 --out t.model");
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(trained.out, "t.model: 300 pieces\n");
  EXPECT_EQ(trained.err, "");
  const auto tokenizer = read_tokenizer(at("t.model"));
  const auto decoded = [&](const string& name) { return tokenizer->decode(Tokens({at(name)}, nullptr).all()); };

  const Result tokenised = run("tokenize text.txt text.txt --tokenizer t.model --out all.bin");
  EXPECT_EQ(tokenised.status, 0) << tokenised.err;
  EXPECT_NE(tokenised.out.find(" bytes of text, "), string::npos) << tokenised.out;
  EXPECT_EQ(decoded("all.bin"), text_ + text_);

  EXPECT_EQ(run("make text.txt --tokenizer t.model --out c --held-out 0.25").status, 0);
  const string valid = decoded("c-valid.bin");
  EXPECT_EQ(decoded("c-train.bin") + valid, text_);
  EXPECT_EQ(std::count(valid.begin(), valid.end(), '\n'), 50);

  const Result split = run("split text.txt --train a.txt --valid b.txt");
  EXPECT_EQ(split.status, 0) << split.err;
  EXPECT_NE(split.out.find("a.txt: 180 lines"), string::npos) << split.out;
  EXPECT_NE(split.out.find("b.txt: 20 lines"), string::npos) << split.out;
  EXPECT_EQ(read_file(at("a.txt")) + read_file(at("b.txt")), text_);
  EXPECT_EQ(directory_.files(), 8u);  // no temporary file among them
}

TEST_F(CorpusTest, MakesOfSeveralTextsTheLastLinesOfEach) {
  train();
  directory_.file("one.txt", "1\n2\n3\n4");
  directory_.file("two.txt", "a\nb\n");
  ASSERT_EQ(run("make one.txt two.txt --tokenizer t.model --out c").status, 0);
  const auto tokenizer = read_tokenizer(at("t.model"));
  EXPECT_EQ(tokenizer->decode(Tokens({at("c-train.bin")}, nullptr).all()), "1\n2\n3\na\n");
  EXPECT_EQ(tokenizer->decode(Tokens({at("c-valid.bin")}, nullptr).all()), "4b\n");
}

TEST_F(CorpusTest, LearnsATokenizerOfFilesFoldersAndStandardInput) {
  train();
  const string text = read_file(at("text.txt"));
  const std::size_t middle = text.find('\n', text.size() / 2) + 1;
  directory_.file("begin.txt", text.substr(0, middle - 1));  // its last line ends with the file
  std::filesystem::create_directory(at("rest"));
  directory_.file("rest/all.txt", text.substr(middle));
  ASSERT_EQ(run("train-tokenizer begin.txt rest --vocabulary 300 --out parts.model").status, 0);
  EXPECT_EQ(read_file(at("parts.model")), read_file(at("t.model")));
  ASSERT_EQ(run("train-tokenizer - --vocabulary 300 --out piped.model < text.txt").status, 0);
  EXPECT_EQ(read_file(at("piped.model")), read_file(at("t.model")));
}

TEST_F(CorpusTest, HelpsAndTellsItsVersion) {
  for (const char* command : {"", "make ", "tokenize ", "train-tokenizer ", "split "}) {
    const Result help = run(string(command) + "--help"), version = run(string(command) + "--version");
    EXPECT_EQ(help.status, 0);
    EXPECT_NE(help.out.find("--version"), string::npos) << help.out;
    EXPECT_EQ(version.status, 0) << command << version.err;
    EXPECT_EQ(version.out, "corpus 0.2.0\n");
  }
}

TEST_F(CorpusTest, RefusesMisuse) {
  train();
  refuses("", "subcommand");
  refuses("frobnicate", "frobnicate is not known here: see corpus --help");
  refuses("tokenize text.txt --tokenizer t.model --out x.bin --fast", "--fast is not known here");
  refuses("tokenize text.txt -t t.model --out x.bin", "-t is not known here");
  refuses("tokenize text.txt --out x.bin", "--tokenizer is required");
  refuses("tokenize --tokenizer t.model --out x.bin", "FILE is required");
  refuses("make text.txt --tokenizer t.model", "--out is required");
  for (const char* fraction : {"0", "1", "-0.5", "1.5"}) {
    refuses(string("make text.txt --tokenizer t.model --out c --held-out=") + fraction, "--held-out: must lie between 0 and 1");
  }
  refuses("train-tokenizer text.txt --vocabulary many --out x.model", "--vocabulary");
  refuses("train-tokenizer text.txt --vocabulary 65537 --out x.model", "choose 1 to 65536");
  refuses("train-tokenizer text.txt --vocabulary 20000 --out x.model", "text.txt is too small for 20000 pieces");
  refuses("train-tokenizer text.txt --vocabulary 100 --out x.model", "too small for the bytes and characters of text.txt");
  refuses("split text.txt --train a.txt --valid a.txt", "--train and --valid write the same file a.txt");
}

TEST_F(CorpusTest, RefusesWrongFiles) {
  train();
  directory_.file("empty.txt", "");
  directory_.file("latin.txt", "caf\xE9\n");
  directory_.file("line.txt", "one line\n");
  refuses("tokenize none.txt --tokenizer t.model --out x.bin", "none.txt does not exist");
  refuses("tokenize . --tokenizer t.model --out x.bin", ". is a directory");
  refuses("tokenize empty.txt --tokenizer t.model --out x.bin", "empty.txt is empty");
  refuses("tokenize text.txt latin.txt --tokenizer t.model --out x.bin", "latin.txt is not UTF-8 text at byte 3");
  refuses("tokenize text.txt --tokenizer text.txt --out x.bin", "text.txt is not a SentencePiece model");
  refuses("tokenize text.txt --tokenizer none.model --out x.bin", "none.model does not exist");
  refuses("train-tokenizer text.txt latin.txt --vocabulary 300 --out x.model", "latin.txt is not UTF-8 text at byte 3");
  refuses("train-tokenizer text.txt none.txt --vocabulary 300 --out x.model", "none.txt does not exist");
  refuses("train-tokenizer empty.txt --vocabulary 300 --out x.model", "empty.txt has no line with text: give more text");
  refuses("make text.txt line.txt --tokenizer t.model --out c", "line.txt has 1 line");
  refuses("split line.txt --train a.txt --valid b.txt", "line.txt has 1 line");
  refuses("split text.txt --train a.txt --valid none/b.txt", "none/b.txt cannot be created: No such file", 1);
  refuses("tokenize text.txt --tokenizer t.model --out /dev/null", "/dev/null is not a regular file");
}

// A file that exceeds the system's limit is an error like any other.
TEST_F(CorpusTest, HasTheEnginesGuards) {
  directory_.file("long.txt", string(200'000, 'a') + "\nb\n");
  directory_.file("go.sh", "ulimit -f 20; exec " + programs_folder() + "/corpus split long.txt --train a.txt --valid b.txt");
  const ProgramResult result = run_program_in(directory_, "corpus --version && sh go.sh");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "corpus: a.txt cannot be written: File too large\n");
  EXPECT_FALSE(std::filesystem::exists(directory_.path("a.txt")));
}

}  // namespace
}  // namespace neurogen

// corpus make: documents from many sources, in pieces; none is lost silently, and no output is half written.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "engine/data/tokenizer.h"
#include "engine/data/tokens.h"
#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

namespace fs = std::filesystem;
using std::string;

class MakeTest : public testing::Test {
 protected:
  MakeTest() {
    string text;
    for (int i = 0; i < 200; ++i)
      text += "the " + std::to_string(i) + "th line of the text has the number " + std::to_string(i) + "\n";
    directory_.file("words.txt", text);
    EXPECT_EQ(run("train-tokenizer words.txt --vocabulary 300 --out t.model").status, 0);
    tokenizer_ = read_tokenizer(directory_.path("t.model"));
  }

  ProgramResult run(const string& arguments, const string& before = "") const {
    return run_program_in(directory_, "corpus " + arguments, before);
  }
  nlohmann::json make(const string& arguments, const string& before = "") const {
    const ProgramResult result = run("make " + arguments + " --tokenizer t.model --out c", before);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.status == 0 ? nlohmann::json::parse(read_file(directory_.path("c.json"))) : nlohmann::json();
  }
  // Expects one line on standard error, and no new file.
  void refuses(const string& arguments, const string& sentence, const string& before = "") const {
    const std::size_t files = directory_.files();
    const ProgramResult result = run("make " + arguments + " --tokenizer t.model --out c", before);
    EXPECT_EQ(result.status, 2) << arguments;
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find(sentence), string::npos) << result.err << "lacks: " << sentence;
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
    EXPECT_EQ(directory_.files(), files) << arguments;
  }
  void folder_file(const string& name, const string& contents) const {
    fs::create_directories(fs::path(directory_.path(name)).parent_path());
    directory_.file(name, contents);
  }
  // Its documents, each decoded from its tokens.
  std::vector<string> documents(const string& part) const {
    std::vector<string> texts;
    const TokenFile file(directory_.path("c-" + part + ".bin"));
    const StoredTokens tokens = file.tokens();
    EXPECT_EQ(tokens[tokens.size() - 1], 2);
    std::vector<TokenId> ids;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] != 2) ids.push_back(tokens[i]);
      else texts.push_back(tokenizer_->decode(ids)), ids.clear();
    }
    return texts;
  }
  string many_lines(int count) const {
    string text;
    for (int i = 0; i < count; ++i) text += "line " + std::to_string(i * 7 % 100) + "\n";
    return text;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(MakeTest, TakesFoldersInTheOrderOfTheirNames) {
  for (int i = 0; i < 60; ++i) folder_file("in/" + std::to_string(i % 5) + "/" + std::to_string(i), "text " + std::to_string(i));
  folder_file("in/1/empty", "");
  folder_file("in/0", "");
  fs::create_directory_symlink(directory_.path("in"), directory_.path("in/2/back"));
  const auto manifest = make("in words.txt");
  const auto& source = manifest["sources"][0];
  EXPECT_EQ(source["files"], 61);
  EXPECT_EQ(source["documents"], 60);
  EXPECT_EQ(source["empty"], 1);
  EXPECT_EQ(source["passed_over"], 1);
  EXPECT_EQ(source["held_out"], "documents by hash");
  EXPECT_EQ(manifest["sources"][1]["held_out"], "last lines");
  EXPECT_EQ(manifest["document_end"], 2);
  EXPECT_EQ(manifest["tokenizer"]["xxh3"], fmt::format("{:016x}", tokenizer_->hash()));
  const auto train = documents("train"), valid = documents("valid");
  EXPECT_EQ(manifest["train"]["documents"], train.size());
  EXPECT_EQ(manifest["valid"]["documents"], valid.size());
  EXPECT_EQ(train.size() + valid.size(), 62u);  // words.txt has a part on each side
  EXPECT_EQ(train.back() + valid.back(), read_file(directory_.path("words.txt")));
  std::vector<string> expected;
  for (const auto& entry : fs::recursive_directory_iterator(directory_.path("in"))) {
    if (entry.is_regular_file() && entry.file_size() > 0) expected.push_back(entry.path().string());
  }
  std::sort(expected.begin(), expected.end());
  std::size_t t = 0, v = 0;
  for (const string& path : expected) {
    const string text = read_file(path);
    if (v < valid.size() && valid[v] == text) ++v;
    else ASSERT_EQ(train[t++], text) << path;
  }
  const string before = read_file(directory_.path("c-train.bin"));
  for (const char* part : {"train", "valid"}) {
    const Tokens tokens({directory_.path(string("c-") + part + ".bin")}, nullptr);
    EXPECT_EQ(manifest[part]["tokens"], tokens.size());
    EXPECT_EQ(manifest[part]["xxh3"], fmt::format("{:016x}", tokens.hash()));
  }
  EXPECT_EQ(make("in words.txt"), manifest);
  EXPECT_TRUE(read_file(directory_.path("c-train.bin")) == before);
}

TEST_F(MakeTest, CutsStandardInputIntoDocuments) {
  directory_.file("in.txt", "one\n\n=\n==\ntwo\n=\n=\nthree= \n=x\n");
  auto manifest = make("- --documents until:= --held-out 0.5", "cat in.txt |");
  std::multiset<string> texts;
  for (const char* part : {"train", "valid"}) {
    for (const string& text : documents(part)) texts.insert(text);
  }
  EXPECT_EQ(texts, (std::multiset<string>{"one\n\n", "==\ntwo\n", "three= \n=x\n"}));
  directory_.file("lines.txt", many_lines(1000) + "\n\nlast");
  manifest = make("lines.txt --documents line");
  EXPECT_EQ(manifest["all"]["documents"], 1001);
  EXPECT_EQ(manifest["all"]["empty"], 2);
  EXPECT_EQ(manifest["sources"][0]["held_out"], "documents by hash");
  // A pipe gives the same wherever its writes are cut.
  auto piped = make("- --documents line", "sh -c 'head -c 1000 lines.txt; sleep 0.1; tail -c +1001 lines.txt' |");
  EXPECT_EQ(piped["train"], manifest["train"]);
  EXPECT_EQ(piped["valid"], manifest["valid"]);
}

// Any line ends give the same documents, each with its line ends unchanged.
TEST_F(MakeTest, CutsLinesThatEndWithCarriageReturnsAlike) {
  const auto with_returns = [](string text) {
    for (std::size_t at = 0; (at = text.find('\n', at)) != string::npos; at += 2) text.insert(at, "\r");
    return text;
  };
  string text = "=\n\none\n\n=\n==\n\ntwo\n=\n=\n";
  for (int i = 0; i < 20; ++i) text += "line " + std::to_string(i) + (i % 3 ? "\n" : "\n\n=\n");
  directory_.file("lf.txt", text + "=");
  directory_.file("crlf.txt", with_returns(text) + "=");
  for (const char* rule : {"line", "until:=", "until:"}) {
    const string options = string(" --held-out 0.5 --documents ") + rule;
    const auto texts = [&] {
      std::multiset<string> all;
      for (const char* part : {"train", "valid"}) {
        for (const string& document : documents(part)) all.insert(document);
      }
      return all;
    };
    const auto expected = make("lf.txt" + options)["all"];
    std::multiset<string> wanted;
    for (const string& document : texts()) wanted.insert(with_returns(document));
    for (const char* cut : {"1", "2", "3", "4", "9"}) {  // also between "\r" and "\n"
      const auto found = make("-" + options, string("sh -c 'head -c ") + cut + " crlf.txt; sleep 0.05; tail -c +" +
                                                 std::to_string(std::stoi(cut) + 1) + " crlf.txt' |")["all"];
      EXPECT_EQ(found["documents"], expected["documents"]) << rule;
      EXPECT_EQ(found["empty"], expected["empty"]) << rule;
      EXPECT_EQ(texts(), wanted) << rule;
    }
  }
}

TEST_F(MakeTest, KeepsTheFirstOfEqualDocuments) {
  directory_.file("lines.txt", many_lines(5000) + "line 3");
  const auto manifest = make("lines.txt --documents line --deduplicate --held-out 0.3");
  EXPECT_EQ(manifest["all"]["documents"], 5001);
  EXPECT_EQ(manifest["all"]["duplicates"], 4900);  // the last one has no line end
  auto all = documents("train");
  const auto valid = documents("valid");
  all.insert(all.end(), valid.begin(), valid.end());
  EXPECT_EQ(std::set<string>(all.begin(), all.end()).size(), 101u);
  EXPECT_EQ(all.size(), 101u);
  // Longer than the buffer in memory, and equal ones in consecutive files.
  folder_file("in/a", string(300'000, '\n') + "end");
  folder_file("in/b", string(300'000, '\n') + "end");
  folder_file("in/c", "other");
  folder_file("in/d", string(300'000, '\n') + "End");
  EXPECT_EQ(make("in lines.txt --deduplicate")["all"]["duplicates"], 1);
  EXPECT_EQ(documents("train").size() + documents("valid").size(), 5u);
}

// A document's side depends only on its bytes, so that no copy of a held-out document is trained on.
TEST_F(MakeTest, HoldsOutEqualDocumentsTogether) {
  directory_.file("a.txt", many_lines(3000));
  string other = many_lines(100);
  for (int i = 0; i < 3000; ++i) other.insert(0, "something else " + std::to_string(i) + "\n");
  directory_.file("b.txt", other);
  make("a.txt --documents line --held-out 0.2");
  const auto held_out = documents("valid"), trained = documents("train");
  const std::set<string> first(held_out.begin(), held_out.end());
  EXPECT_NEAR(static_cast<double>(first.size()), 20, 15);
  for (const string& text : trained) ASSERT_EQ(first.count(text), 0u);
  make("b.txt --documents line --held-out 0.2");
  std::set<string> second;
  for (const string& text : documents("valid")) {
    if (text.starts_with("line")) second.insert(text);
  }
  EXPECT_EQ(first, second);
}

TEST_F(MakeTest, ReplacesOnRequestWhatIsNotUtf8) {
  folder_file("in/a", "caf\xE9\n\xFF\n");
  folder_file("in/b", "good");
  refuses("in", "in/a is not UTF-8 text at byte 3: convert it with iconv -t UTF-8, or use corpus make --replace-invalid");
  directory_.file("lines.txt", "a\nb\nc\n");
  const auto manifest = make("in lines.txt --replace-invalid");
  EXPECT_EQ(manifest["sources"][0]["replaced"], 2);
  EXPECT_EQ(manifest["all"]["replaced"], 2);
  auto all = documents("train");
  for (const string& text : documents("valid")) all.push_back(text);
  EXPECT_EQ(std::count(all.begin(), all.end(), "caf\uFFFD\n\uFFFD\n"), 1);
}

TEST_F(MakeTest, RefusesWhatItCannotTake) {
  directory_.file("empty.txt", "");
  fs::create_directory(directory_.path("nothing"));
  refuses("none", "none does not exist");
  refuses("empty.txt", "empty.txt is empty");
  refuses("-", "standard input is empty", "</dev/null");
  refuses("nothing", "nothing is a folder without files");
  refuses("words.txt --documents page", "--documents is \"page\": use file, line or until:LINE");
  refuses("words.txt --progress fancy", "--progress is \"fancy\"");
  directory_.file("line.txt", "one");
  refuses("line.txt --documents line", "none of 1 documents is left for c-");
  folder_file("in/a", "text");
  fs::create_symlink("b", directory_.path("in/b"));
  refuses("in", "in/b is a broken link");
}

TEST_F(MakeTest, RefusesAFolderThatCannotBeRead) {
  folder_file("in/closed/a", "text");
  fs::permissions(directory_.path(""), fs::perms::all);
  fs::permissions(directory_.path("in/closed"), fs::perms::none);
  const string user = geteuid() == 0 ? "setpriv --reuid 65534 --regid 65534 --clear-groups " : "";  // root reads everything
  const ProgramResult result = run("make in --tokenizer t.model --out c", user);
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("in/closed cannot be read: Permission denied"), string::npos) << result.err;
  fs::permissions(directory_.path("in/closed"), fs::perms::all);
}

// A process that reads the test's writes.
class Fed {
 public:
  Fed(const TemporaryDirectory& directory, const string& arguments) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    process_ = fork();
    if (process_ == 0) {
      dup2(ends[0], 0);
      const string line = "cd " + directory.path("") + " && exec " + programs_folder() + "/corpus " + arguments + " >out 2>err";
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    close(ends[0]);
    to_ = ends[1];
  }
  void feed(const string& text) const { EXPECT_EQ(write(to_, text.data(), text.size()), static_cast<ssize_t>(text.size())); }
  void wait_until_read() const {
    for (int left = 1; left > 0; usleep(1000)) ioctl(to_, FIONREAD, &left);
  }
  void signal(int which) const { kill(process_, which); }
  int finish() {  // returns the status from wait4
    close(to_);
    int status = 0;
    wait4(process_, &status, 0, &usage_);
    return status;
  }
  long peak_kilobytes() const { return usage_.ru_maxrss; }

 private:
  pid_t process_;
  int to_;
  rusage usage_{};
};

TEST_F(MakeTest, LeavesNoHalfMadeFileHoweverItEnds) {
  make("words.txt");
  const string train = read_file(directory_.path("c-train.bin")), manifest = read_file(directory_.path("c.json"));
  const std::size_t files = directory_.files();
  string text;
  while (text.size() < 200'000) text += many_lines(100);
  for (const int which : {SIGTERM, SIGINT, SIGKILL}) {
    Fed corpus(directory_, "make - --tokenizer t.model --out c");
    corpus.feed(text);
    corpus.wait_until_read();
    corpus.signal(which);
    const int status = corpus.finish();
    EXPECT_TRUE(read_file(directory_.path("c-train.bin")) == train);
    EXPECT_EQ(read_file(directory_.path("c.json")), manifest);
    if (which == SIGKILL) {
      EXPECT_TRUE(WIFSIGNALED(status));
      for (const auto& entry : fs::directory_iterator(directory_.path(""))) {  // leftovers can be told from results
        const string name = entry.path().filename();
        EXPECT_TRUE(entry.path().extension() != ".bin" || name == "c-train.bin" || name == "c-valid.bin") << name;
      }
    } else {
      EXPECT_EQ(WEXITSTATUS(status), 128 + which);
      EXPECT_EQ(read_file(directory_.path("err")), "corpus: stopped by a signal: no file was written\n");
      EXPECT_EQ(directory_.files(), files + 2);  // out and err
    }
  }
}

// Peak memory does not grow with a text 30 times as long: one document of one line, and a document per line.
TEST_F(MakeTest, NeedsNoMoreMemoryForALongerText) {
  string line, lines;
  while (line.size() < 2'000'000) line += line.size() % 100'000 < 2'000 ? "word" : "\u2581";  // quick to tokenise
  while (lines.size() < 2'000'000) lines += "\nw" + string(3000, '\n');
  for (const auto& [text, options] : {std::pair{&line, "tokenize - --out c.bin"},
                                      {&lines, "make - --out c"},
                                      {&lines, "make - --out c --deduplicate --documents until:="}}) {
    long peak[2];
    for (const int times : {1, 30}) {
      Fed corpus(directory_, options + string(" --tokenizer t.model"));
      for (int i = 0; i < times; ++i) corpus.feed(*text + "=\n");
      for (int i = 0; i < 100; ++i) corpus.feed(std::to_string(i) + "\n=\n");
      EXPECT_EQ(corpus.finish(), 0) << read_file(directory_.path("err"));
      peak[times > 1] = corpus.peak_kilobytes();
    }
    EXPECT_LT(peak[1], peak[0] + 2000) << options;  // of 60 MB more
  }
}

}  // namespace
}  // namespace neurogen

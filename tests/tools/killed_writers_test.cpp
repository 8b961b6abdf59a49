// Programs that are killed while they write a file, with the file complete but not in place yet: nothing of it is left.
#include <gtest/gtest.h>

#include <csignal>
#include <map>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class KilledWriters : public testing::Test {
 protected:
  KilledWriters() {
    make_numbered_text(directory_, " has the number ", "\n");
    EXPECT_EQ(run("neurogen-engine " + kTrain + "--export w.safetensors --log l.jsonl").status, 0);
  }
  void SetUp() override {
    if (std::system("strace -o /dev/null true 2>/dev/null") != 0) GTEST_SKIP() << "strace is not installed or not allowed here";
  }
  // `strace`: its options, which disturb the program.
  ProgramResult run(const string& command, const string& strace = "") const {
    return run_program_in(directory_, command, strace.empty() ? "" : "strace -f -o /dev/null " + strace);
  }
  std::map<string, string> files() const {
    std::map<string, string> all;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path("")))
      all[entry.path().filename()] = read_file(entry.path());
    return all;
  }

  void remove_new_files() const {
    for (const auto& [name, bytes] : files())
      if (name.starts_with("new")) std::filesystem::remove(directory_.path(name));
  }

  const string kTrain =
      "train --arch brain.json --batch 2 --seq 16 --threads 1 --data text.txt --tokenizer t.model --progress none --steps 3 ";
  const std::vector<string> kCorpus = {"corpus tokenize text.txt --tokenizer t.model --out ",
                                       "corpus split text.txt --valid new-rest.txt --train ",
                                       "corpus make text.txt --tokenizer t.model --out "};
  const std::vector<string> kOthers = {"corpus train-tokenizer text.txt --vocabulary 290 --out ",
                                       "neurogen-engine " + kTrain + "--export ", "neurogen-engine report l.jsonl --out ",
                                       "plan --arch brain.json --budget 1G --svg "};
  const string kNoProc = "-e inject=access,faccessat:error=ENOENT ";  // without it no file can get its name later
  TemporaryDirectory directory_;
};

TEST_F(KilledWriters, LeaveNothing) {
  if (!directory_.has_nameless_files()) GTEST_SKIP() << "the file system has no files without names";
  const auto before = files();
  for (const auto* writers : {&kCorpus, &kOthers}) {
    for (const string& writer : *writers) {
      SCOPED_TRACE(writer);
      EXPECT_EQ(run(writer + "new.safetensors", "-e inject=fsync:signal=KILL").status, 128 + SIGKILL);
      EXPECT_TRUE(files() == before);
    }
  }
}

TEST_F(KilledWriters, WriteOnEveryFileSystem) {
  const auto before = files();
  for (const auto* writers : {&kCorpus, &kOthers}) {
    for (const string& writer : *writers) {
      SCOPED_TRACE(writer);
      EXPECT_EQ(run(writer + "new.safetensors").status, 0);
      const auto expected = files();
      remove_new_files();
      for (const char* file : {"new", "existing"}) {
        EXPECT_EQ(run(writer + "new.safetensors", kNoProc).status, 0) << file;
        EXPECT_TRUE(files() == expected) << file;
      }
      remove_new_files();
      EXPECT_TRUE(files() == before);
    }
  }
  // A signal that a program answers leaves nothing there either.
  for (const string& writer : kCorpus) {
    SCOPED_TRACE(writer);
    run(writer + "new.safetensors", kNoProc + "-e inject=write:signal=TERM:when=1");
    remove_new_files();  // whole ones
    EXPECT_TRUE(files() == before);
  }
}

}  // namespace
}  // namespace neurogen

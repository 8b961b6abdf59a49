// The program corpus when memory runs out, and when a file that it has mapped is cut short.
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class CorpusTrouble : public testing::Test {
 protected:
  CorpusTrouble() { make_numbered_text(directory_, " has the number ", "\n"); }
  // Expects status 1, one sentence, and no new file.
  void fails(const ProgramResult& result, const string& part) const {
    EXPECT_EQ(result.status, 1) << result.out;
    EXPECT_EQ(result.err.rfind("corpus: ", 0), 0u) << result.err;
    EXPECT_NE(result.err.find(part), string::npos) << result.err << "lacks: " << part;
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
    EXPECT_EQ(directory_.files(), 3u);
  }
  ProgramResult run(const string& command, const string& before) const { return run_program_in(directory_, command, before); }

  TemporaryDirectory directory_;
};

TEST_F(CorpusTrouble, MemoryThatRunsOutIsNamed) {
  const string train = "corpus train-tokenizer text.txt --vocabulary 310 --out new";
  int failed = 0;
  for (int megabytes = 20; megabytes < 200; megabytes += megabytes < 50 ? 3 : 30) {
    const ProgramResult result = run(train, "prlimit --as=" + std::to_string(megabytes) + "000000 --");
    if (result.status == 0) break;
    if (result.err.find("loading shared libraries") != string::npos) continue;  // before the program begins
    SCOPED_TRACE(megabytes);
    fails(result, result.err.find("out of memory") != string::npos ? "out of memory: " : "the system cannot start more threads: ");
    ++failed;
  }
  EXPECT_GT(failed, 3);
  std::filesystem::remove(directory_.path("new"));
  // A file that is larger than the address space.
  directory_.file("text.txt", "");
  std::filesystem::resize_file(directory_.path("text.txt"), std::uintmax_t{3} << 30);
  fails(run("corpus split text.txt --train new --valid rest", "prlimit --as=1000000000 --"),
        "text.txt cannot be mapped: Cannot allocate memory");
}

// strace holds the program once it has mapped the file, and the test cuts the file meanwhile.
TEST_F(CorpusTrouble, AFileThatIsCutShortIsNamed) {
  if (std::system("strace -o /dev/null true 2>/dev/null") != 0) GTEST_SKIP() << "strace is not installed or not allowed here";
  const string path = directory_.path("text.txt");
  const auto mapped = [&] {
    for (const auto& process : std::filesystem::directory_iterator("/proc"))
      if (read_file(process.path() / "maps").find(path) != string::npos) return true;
    return false;
  };
  std::jthread other([&] {
    for (int i = 0; i < 3000 && !mapped(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::filesystem::resize_file(path, 0);
  });
  fails(run("corpus split text.txt --train new --valid rest",
            "strace -o /dev/null -P " + path + " -e inject=mmap:delay_exit=1500000"),
        "a file was cut short, or cannot be read any more, while it was in use");
}

}  // namespace
}  // namespace neurogen

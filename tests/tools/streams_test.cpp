// Standard streams that are closed or full: messages never get into files, and the status stays the same unless standard output
// refuses the program's result.
#include <gtest/gtest.h>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class Streams : public testing::Test {
 protected:
  Streams() { make_numbered_text(directory_, " has the number ", "\n"); }
  // The shell's redirections follow the command; output is not checked for a missing stream.
  ProgramResult run(const string& command) const { return run_program_in(directory_, command); }

  const string kTrain =
      "neurogen-engine --arch brain.json --batch 2 --seq 16 --threads 1 --data text.txt --tokenizer t.model --steps 3 ";
  TemporaryDirectory directory_;
};

TEST_F(Streams, MessagesNeverGetIntoFiles) {
  const string tokenize = "corpus tokenize text.txt --tokenizer t.model --out ",
               make = "corpus make text.txt --tokenizer t.model --out ";
  ASSERT_EQ(run(tokenize + "a.bin").status, 0);
  ASSERT_EQ(run(make + "a").status, 0);
  ASSERT_EQ(run(kTrain + "--export a.safetensors").status, 0);
  int number = 0;
  for (const string closed : {"2>&-", "<&-", "<&- 2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"}) {
    const int status = closed.find(" >") == string::npos && closed[0] != '>' ? 0 : 1;
    const string name = "b" + std::to_string(++number);
    EXPECT_EQ(run(tokenize + name + ".bin " + closed).status, status) << closed;
    EXPECT_TRUE(read_file(directory_.path(name + ".bin")) == read_file(directory_.path("a.bin"))) << closed;
    EXPECT_EQ(run(make + name + " --progress plain " + closed).status, status) << closed;
    for (const char* part : {"-train.bin", "-valid.bin"})
      EXPECT_TRUE(read_file(directory_.path(name + part)) == read_file(directory_.path(string("a") + part))) << closed;
    // A run without any output trains to its end and exports.
    EXPECT_EQ(run(kTrain + "--progress plain --export " + name + ".safetensors " + closed).status, status) << closed;
    EXPECT_TRUE(read_file(directory_.path(name + ".safetensors")) == read_file(directory_.path("a.safetensors"))) << closed;
  }
}

TEST_F(Streams, TheStatusStays) {
  for (const string stream : {"2>&-", "2>/dev/full", "<&- >&- 2>&-", ">/dev/full 2>&1"}) {
    for (const string program : {"corpus", "plan", "neurogen-engine"}) {
      EXPECT_EQ(run(program + " --frobnicate " + stream).status, 2) << program << stream;
      EXPECT_EQ(run(program + " --version " + stream).status, stream[0] == '2' ? 0 : 1) << program << stream;
    }
    EXPECT_EQ(run("plan --arch none.json " + stream).status, 2) << stream;
    EXPECT_EQ(run("plan --arch tiny --device cpu --budget 1 " + stream).status, 2) << stream;  // a page
    EXPECT_EQ(run(kTrain + "--budget 1 " + stream).status, 2) << stream;
    EXPECT_EQ(run("corpus split none.txt --train a --valid b " + stream).status, 2) << stream;
  }
  // The program's result does not arrive.
  ASSERT_EQ(run(kTrain + "--export w.safetensors --progress none").status, 0);
  const string generate = "neurogen-engine generate --init w.safetensors --tokenizer t.model --prompt line ";
  for (const string& command : {generate, string("plan --arch tiny --device cpu "), string("plan --help "),
                                string("corpus split text.txt --train a --valid b ")}) {
    EXPECT_EQ(run(command).status, 0) << command;
    for (const auto& [stream, why] : {std::pair{">/dev/full", "No space left on device"}, {">&-", "Bad file descriptor"}}) {
      const ProgramResult result = run(command + stream);
      EXPECT_EQ(result.status, 1) << command << stream;
      EXPECT_EQ(result.err, command.substr(0, command.find(' ')) + ": standard output: " + why + "\n") << command << stream;
    }
  }
  // A full disk under the output does not end training.
  const ProgramResult trained = run(kTrain + "--export full.safetensors --progress none >/dev/full");
  EXPECT_EQ(trained.status, 1);
  EXPECT_EQ(trained.err, "neurogen-engine: standard output: No space left on device\n");
  EXPECT_TRUE(read_file(directory_.path("full.safetensors")) == read_file(directory_.path("w.safetensors")));
  // A reader that closes the pipe does not end it either.
  run(kTrain + "--export cut.safetensors 2>&1 | true");
  EXPECT_TRUE(read_file(directory_.path("cut.safetensors")) == read_file(directory_.path("w.safetensors")));
}

// Echoed values are shortened, and stay on one line.
TEST_F(Streams, AMessageIsOneLineThatCanBeRead) {
  const string value(100'000, 'x');
  for (const string& command :
       std::initializer_list<string>{"neurogen-engine --arch " + value + ".json --data text.txt", "plan --budget " + value,
                                     "plan --device " + value, "corpus tokenize " + value + " --tokenizer t.model --out a.bin",
                                     "plan --" + value, "plan --arch 'a\nb\x1B[31m\xFF.json'"}) {
    const ProgramResult result = run(command);
    EXPECT_EQ(result.status, 2) << command.substr(0, 40);
    EXPECT_LT(result.err.size(), 1100u) << command.substr(0, 40);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << command.substr(0, 40);
    EXPECT_EQ(result.err.find('\x1B'), string::npos);
    EXPECT_EQ(result.err.find('\xFF'), string::npos);
  }
}

}  // namespace
}  // namespace neurogen

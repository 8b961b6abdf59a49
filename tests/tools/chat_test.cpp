// neurogen-engine chat, through a pipe and on a terminal: answers, memory, saving, stopping and refusals.
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class Chat : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory;
    make_numbered_text(*directory_, " has the number ", "\n");
    ASSERT_EQ(run_program_in(*directory_,
                             "neurogen-engine --arch brain.json --batch 4 --seq 32 --data text.txt --tokenizer t.model "
                             "--steps 60 --progress none --export w.safetensors")
                  .status,
              0);
  }
  static void TearDownTestSuite() { delete directory_; }

  static ProgramResult chat(const string& lines, const string& arguments = "") {
    directory_->file("said", lines);
    return run_program_in(*directory_, "neurogen-engine chat " + kVoice + arguments + " < said");
  }
  static std::vector<string> lines_of(const string& text) {
    std::vector<string> lines;
    for (std::size_t at = 0, end; at < text.size(); at = end + 1) {
      end = std::min(text.find('\n', at), text.size());
      lines.push_back(text.substr(at, end - at));
    }
    return lines;
  }

  inline static const string kVoice = "--init w.safetensors --tokenizer t.model --max-tokens 24 ";
  inline static TemporaryDirectory* directory_ = nullptr;
};

TEST_F(Chat, AnswersLineByLineAndForgetsWhenAsked) {
  const ProgramResult result = chat("line 7\nline 8\n/reset\nline 7\n\nline 8", "--temperature 0 ");
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  const auto answers = lines_of(result.out);
  ASSERT_EQ(answers.size(), 4u) << result.out;
  for (const string& answer : answers) EXPECT_NE(answer, "");
  EXPECT_EQ(answers[2], answers[0]);
  EXPECT_EQ(answers[3], answers[1]);
  // Another process reproduces the whole answer, and nothing of the next line.
  EXPECT_EQ(chat("line 7\n", "--temperature 0 ").out, answers[0] + "\n");
}

TEST_F(Chat, RemembersWhatWasSaidBefore) {
  bool differs = false;
  for (const char* before : {"line 1 has", "the number the number", "9 9 9 9"}) {
    const auto told = lines_of(chat(string(before) + "\nline 2\n", "--temperature 0 ").out);
    ASSERT_EQ(told.size(), 2u);
    differs |= told[1] + "\n" != chat("line 2\n", "--temperature 0 ").out;
  }
  EXPECT_TRUE(differs);
}

TEST_F(Chat, NumbersAreChangedAndWrongOnesRefusedWhileItGoesOn) {
  const ProgramResult result = chat(
      "/set temperature 0\n/set top-k 5\n/params\n/set top-k 1.5\n/set top-p 2\n/set temperature\n/set heat 3\n/frobnicate\n/quit "
      "now\n/save\nline 7\n/quit\nline 8\n");
  EXPECT_EQ(result.status, 0);
  const auto errors = lines_of(result.err);
  ASSERT_EQ(errors.size(), 7u) << result.err;
  const char* parts[] = {
      "top-k is \"1.5\": use a whole number",    "top-p is 2: use 0 to 1",     "/set temperature: no such", "/set heat 3: no such",
      "/frobnicate: no such command: see /help", "/quit now: no such command", "/save: no such command"};
  for (std::size_t i = 0; i < errors.size(); ++i) {
    EXPECT_EQ(errors[i].rfind("neurogen-engine: ", 0), 0u);
    EXPECT_NE(errors[i].find(parts[i]), string::npos) << errors[i];
  }
  EXPECT_NE(result.out.find("\ntemperature         0 "), string::npos) << result.out;
  EXPECT_NE(result.out.find("\ntop-k               5 "), string::npos) << result.out;
  EXPECT_EQ(lines_of(result.out).back() + "\n", chat("line 7\n", "--temperature 0 ").out);
  EXPECT_NE(chat("/help\n").out.find("/load FILE"), string::npos);
  EXPECT_NE(chat("line 7\n/params\n").out.find("allocations while answering: 0\n"), string::npos);
}

TEST_F(Chat, SavesAndLoadsTheConversationsText) {
  const ProgramResult first = chat(
      "line 7\nGr\xC3\xBC\xC3\x9F"
      "e\n/save a.txt\n",
      "--temperature 0 ");
  const auto answers = lines_of(first.out);
  ASSERT_EQ(answers.size(), 3u) << first.out << first.err;
  EXPECT_EQ(answers[2], "saved to a.txt");
  const string saved = "> line 7\n< " + answers[0] +
                       "\n> Gr\xC3\xBC\xC3\x9F"
                       "e\n< " +
                       answers[1] + "\n";
  EXPECT_EQ(read_file(directory_->path("a.txt")), saved);
  const ProgramResult again = chat("line 1\n/load a.txt\n/save b.txt\nline 9\n", "--temperature 0 ");
  EXPECT_EQ(read_file(directory_->path("b.txt")), saved) << again.err;
  const auto after = lines_of(again.out);
  ASSERT_EQ(after.size(), 7u) << again.out;
  EXPECT_EQ(after[1] + "\n" + after[2] + "\n" + after[3] + "\n" + after[4] + "\n", saved);
  EXPECT_EQ(lines_of(chat("/load a.txt\nline 9\n", "--temperature 0 ").out).back(), after[6]);  // nothing of "line 1" is left

  directory_->file("c.txt", "> line 7\nno speaker\n");
  directory_->file("d.txt", "> \xFF\n");
  const ProgramResult wrong = chat("/load c.txt\n/load d.txt\n/load none\n/save a.txt\n/save none/x\nline 7\n", "--temperature 0 ");
  EXPECT_EQ(wrong.status, 0);
  EXPECT_EQ(lines_of(wrong.out).front(), answers[0]) << "a refused file changes nothing";
  const auto errors = lines_of(wrong.err);
  ASSERT_EQ(errors.size(), 5u) << wrong.err;
  const char* parts[] = {"c.txt line 2 begins neither", "d.txt is not UTF-8", "none does not exist", "a.txt exists", "none/x"};
  for (std::size_t i = 0; i < errors.size(); ++i) EXPECT_NE(errors[i].find(parts[i]), string::npos) << errors[i];
}

// A chat on its own terminal.
class Terminal {
 public:
  Terminal(const string& directory, const string& arguments) {
    pid_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (pid_ == 0) {
      setenv("TERM", "xterm", 1);
      const string command = "cd " + directory + " && exec " + programs_folder() + "/neurogen-engine chat " + arguments;
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Terminal() {
    if (pid_ > 0) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
    close(terminal_);
  }
  void type(const string& keys) const {
    EXPECT_EQ(::write(terminal_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  // Waits until `part` appears after everything awaited before; returns the text before it.
  string until(const string& part) {
    for (int i = 0; i < 1500; ++i) {
      if (const auto at = seen_.find(part); at != string::npos) {
        const string before = seen_.substr(0, at);
        seen_.erase(0, at + part.size());
        return before;
      }
      pollfd input = {terminal_, POLLIN, 0};
      char bytes[4096];
      if (poll(&input, 1, 20) > 0) {
        const ssize_t size = ::read(terminal_, bytes, sizeof bytes);
        if (size <= 0) break;
        seen_.append(bytes, static_cast<std::size_t>(size));
      }
    }
    ADD_FAILURE() << "never seen: " << part << "\nbut: " << seen_;
    return "";
  }
  int status() {
    int status = 0;
    for (int i = 0; waitpid(pid_, &status, WNOHANG) == 0; ++i) {
      if (i == 1500) ADD_FAILURE() << "does not end", kill(pid_, SIGKILL);
      char bytes[4096];
      pollfd input = {terminal_, POLLIN, 0};
      if (poll(&input, 1, 20) > 0 && ::read(terminal_, bytes, sizeof bytes) < 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void signal(int number) const { kill(pid_, number); }

 private:
  int terminal_ = -1;
  pid_t pid_ = 0;
  string seen_;
};

TEST_F(Chat, LinesAreEditedAndRememberedOnATerminal) {
  Terminal terminal(directory_->path(""), kVoice + "--temperature 0");
  const auto answers = [&](const string& text) { terminal.until("\r\n" + text + "\r\n"), terminal.until("> "); };
  terminal.until("/help shows");
  terminal.until("> ");
  const string answer = lines_of(chat("line 7\n", "--temperature 0 ").out)[0];
  terminal.type(
      "line 8\x7f"
      "7\n");  // a typing error corrected
  answers(answer);
  terminal.type("/reset\n");
  terminal.until("> ");
  terminal.type("\x1b[A\x1b[A\n");  // up twice
  answers(answer);
  terminal.type("half a line");
  terminal.until("half a line");
  terminal.type("\x03");  // Ctrl-C drops the line
  terminal.until("> ");
  terminal.type("/reset\nline 7\n");
  terminal.until("\r\n" + answer.substr(0, 8));
  terminal.type("\x04");  // Ctrl-D, in the middle of the answer
  EXPECT_EQ(terminal.status(), 0);
}

TEST_F(Chat, PastedLinesAreOneTurnAndCommandsAreCompleted) {
  Terminal terminal(directory_->path(""), kVoice + "--temperature 0");
  terminal.until("> ");
  terminal.type("line 7\nline 8\nline 9\n");
  terminal.until("> line 9\r\n");  // not the terminal's own echo, which may come first
  terminal.until("\r\n> ");        // after the answer
  terminal.type("/sa\tpasted.txt\n");
  terminal.until("saved to pasted.txt");
  terminal.type("/par\t\n");
  terminal.until("allocations while answering: 0");
  terminal.type("/qu\t\n");
  EXPECT_EQ(terminal.status(), 0);
  const string saved = read_file(directory_->path("pasted.txt"));
  EXPECT_EQ(saved.rfind("> line 7\n> line 8\n> line 9\n< ", 0), 0u) << saved;
  EXPECT_EQ(std::count(saved.begin(), saved.end(), '<'), 1) << saved;
}

TEST_F(Chat, AnInterruptStopsTheAnswerNotTheProgram) {
  // A brain that has never seen a line's end writes none.
  std::vector<std::uint16_t> ids(2000);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint16_t>(260 + i % 30);
  directory_->file("endless.bin", {reinterpret_cast<const char*>(ids.data()), ids.size() * 2});
  ASSERT_EQ(run_program_in(*directory_,
                           "neurogen-engine --arch brain.json --batch 4 --seq 32 --data endless.bin --steps 60 --progress none "
                           "--export endless.safetensors")
                .status,
            0);
  Terminal terminal(directory_->path(""), "--init endless.safetensors --tokenizer t.model --max-tokens 1000000000 --temperature 0");
  terminal.until("> ");
  terminal.type("line 7\n");
  for (int i = 0; i < 3; ++i) {
    terminal.until("line 7\r\n");
    for (int pieces = 0; pieces < 1000; ++pieces) terminal.until(" ");  // it writes on and on
    terminal.type("\x03");
    terminal.until("\r\n> ");
    terminal.type(i < 2 ? "line 7\n" : "/set max-tokens 5\nline 8\n");
  }
  terminal.until("line 8\r\n");
  EXPECT_LT(terminal.until("\r\n> ").size(), 100u);
  terminal.signal(SIGTERM);
  EXPECT_EQ(terminal.status(), 128 + SIGTERM);
}

TEST_F(Chat, RefusesMisuse) {
  for (const auto& [arguments, part] :
       std::initializer_list<std::pair<string, string>>{{"--tokenizer t.model", "--init"},
                                                        {kVoice + "--top-p -1", "top-p is -1"},
                                                        {kVoice + "--prompt x", "--prompt is not known"}}) {
    const ProgramResult result = run_program_in(*directory_, "neurogen-engine chat " + arguments + " </dev/null");
    EXPECT_EQ(result.status, 2) << arguments;
    EXPECT_NE(result.err.find(part), string::npos) << result.err;
  }
  const ProgramResult wrong = chat("line \xFF\nline 7\n", "--temperature 0 ");
  EXPECT_EQ(wrong.status, 0);
  EXPECT_NE(wrong.err.find("not UTF-8"), string::npos) << wrong.err;
}

}  // namespace
}  // namespace neurogen

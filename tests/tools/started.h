// A program that runs beside the test, with its children.
#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "tests/tools/run_program.h"

namespace neurogen {

class Started {
 public:
  Started(const TemporaryDirectory& directory, const std::string& arguments, const std::string& name = "run",
          const std::string& variables = "")
      : directory_(directory), name_(name) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);  // ranks that outlive rank 0 become ours
    process_ = fork();
    if (process_ != 0) return;
    const std::string line =
        variables + " exec " + programs_folder() + "/neurogen-engine " + arguments + " >" + name + ".out 2>" + name + ".err";
    if (chdir(directory.path("").c_str()) == 0) execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    _exit(127);
  }

  ~Started() {
    if (process_ > 0) kill(process_, SIGKILL), waitpid(process_, nullptr, 0);  // a failed check ended the test early
    prctl(PR_SET_CHILD_SUBREAPER, 0);
  }
  Started(const Started&) = delete;
  Started& operator=(const Started&) = delete;

  // The processes of all ranks, once they are there: rank 0's, and its children.
  std::vector<pid_t> ranks(std::size_t size) const {
    for (;;) {
      std::vector<pid_t> all = {process_};
      const std::string own = std::to_string(process_);
      std::istringstream children(read_file("/proc/" + own + "/task/" + own + "/children"));
      for (pid_t child; children >> child;) all.push_back(child);
      if (all.size() >= size || kill(process_, 0) != 0) return all;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void wait_for_line(const std::string& file, const std::string& part) const {
    for (int i = 0; i < 4000 && read_file(directory_.path(file)).find(part) == std::string::npos; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  // The exit status, or 128 plus the signal that ended it; with `others`, these end too, with status 1 if they were not killed.
  int status(const std::vector<pid_t>& others = {}) {
    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    int first = 0;
    const pid_t own = std::exchange(process_, 0);
    EXPECT_EQ(waitpid(own, &first, 0), own);
    for (const pid_t other : others) {
      for (int status = 0;
           other != own && kill(other, 0) == 0 && std::chrono::steady_clock::now() - begin < std::chrono::seconds(30);
           usleep(1000)) {
        if (waitpid(other, &status, WNOHANG) == other && WIFEXITED(status)) {
          EXPECT_EQ(WEXITSTATUS(status), 1);
        }
      }
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, others.empty() ? std::chrono::seconds(60) : std::chrono::seconds(20));
    return WIFEXITED(first) ? WEXITSTATUS(first) : 128 + WTERMSIG(first);
  }
  std::string out() const { return read_file(directory_.path(name_ + ".out")); }
  std::string err() const { return read_file(directory_.path(name_ + ".err")); }

 private:
  const TemporaryDirectory& directory_;
  std::string name_;
  pid_t process_;
};

// One sentence of the program, and no more.
inline void expect_sentence(const std::string& err, const std::string& part) {
  EXPECT_EQ(err.rfind("neurogen-engine: ", 0), 0u) << err;
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  EXPECT_NE(err.find(part), std::string::npos) << err << "lacks: " << part;
}

}  // namespace neurogen

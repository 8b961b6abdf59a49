// A run that saves every step and is killed at random moments: its newest checkpoint is always whole and no older than the last
// save that it logged.
#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "engine/files/checkpoint.h"
#include "engine/files/checkpoint_directory.h"
#include "tests/tools/run_program.h"

namespace neurogen {

class KilledRun {
 public:
  explicit KilledRun(const std::string& options = "") : kTrain(kCommand + options) {
    directory_.file("brain.json", kTestBrain);
    std::string ids;
    for (int i = 0; i < 1000; ++i) ids += {static_cast<char>(i * i % 7 * 20 + i % 11), 0};
    directory_.file("text.bin", ids);
  }

  // Each run resumes the one killed before it. Equal seeds give equal moments.
  void kill_and_check(int times, unsigned seed) {
    std::mt19937 random(seed);
    std::int64_t saved = 0;
    int interrupted = 0;  // saves
    for (int i = 0; i < times; ++i) {
      SCOPED_TRACE(testing::Message() << "kill " << i << " of seed " << seed);
      kill_after(std::chrono::microseconds(random() % 300'000));
      interrupted += std::filesystem::exists(directory_.path("saved/saving.part"));
      saved = std::max(saved, last_saved());
      if (saved == 0 && files() == 0) continue;
      const Checkpoint newest(checkpoint_file(directory_.path("saved")));
      newest.verify();
      EXPECT_GE(newest.manifest().standing.steps, saved);
    }
    EXPECT_GT(saved, times) << "the runs hardly ever got to a save";
    EXPECT_GT(interrupted, 0) << "no save was ever cut";
    const ProgramResult last =
        run_program_in(directory_, "corpus --version && timeout -s TERM 1 " + programs_folder() + "/neurogen-engine " + kTrain);
    EXPECT_NE(last.out.find("resuming from saved/"), std::string::npos) << last.out << last.err;
    EXPECT_GT(Checkpoint(checkpoint_file(directory_.path("saved"))).manifest().standing.steps, saved);
  }

 private:
  void kill_after(std::chrono::microseconds time) const {
    const pid_t process = fork();
    if (process == 0) {
      const std::string line = "exec " + programs_folder() + "/neurogen-engine " + kTrain + " >out 2>err";
      if (chdir(directory_.path("").c_str()) == 0) execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    ASSERT_GT(process, 0);
    std::this_thread::sleep_for(time);
    kill(process, SIGKILL);
    int status;
    ASSERT_EQ(waitpid(process, &status, 0), process);
    EXPECT_TRUE(WIFSIGNALED(status)) << read_file(directory_.path("err"));
  }

  // Read from the log, whose last line may be incomplete.
  std::int64_t last_saved() const {
    std::int64_t step = 0;
    std::istringstream log(read_file(directory_.path("log.jsonl")));
    for (std::string line; std::getline(log, line);) {
      const auto event = nlohmann::json::parse(line, nullptr, false);
      if (event.is_object() && event["event"] == "checkpoint") step = event["step"];
    }
    return step;
  }
  std::ptrdiff_t files() const {
    std::error_code missing;
    std::ptrdiff_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path("saved"), missing)) {
      count += entry.path().extension() == ".ngck";
    }
    return count;
  }

  const std::string kCommand =
      "--arch brain.json --batch 2 --seq 16 --threads 1 --data text.bin --progress none "
      "--steps 1000000 --checkpoint-dir saved --save-every 1 --resume --log log.jsonl ";
  const std::string kTrain;
  TemporaryDirectory directory_;
};

}  // namespace neurogen

// Two GPUs as a user has them: skipped on a machine with fewer, or where they need NCCL and have none.
#include <random>

#include "engine/files/checkpoint.h"
#include "engine/files/checkpoint_directory.h"
#include "kernels/base/cuda_device.h"
#include "tests/tools/command_line.h"
#include "tests/tools/started.h"

namespace neurogen {
namespace {

class TwoGpus : public CommandLine {
 protected:
  void SetUp() override {
    if (CudaDevice::count() < 2) GTEST_SKIP() << "this machine has fewer than two GPUs";
    const ProgramResult probe = train_on("--batch 2 --gpus 2 --steps 1 --export probe.safetensors");
    if (probe.err.find("libnccl") != string::npos) GTEST_SKIP() << probe.err;
    ASSERT_EQ(probe.status, 0) << probe.err;
  }
  ProgramResult train_on(const string& arguments) const { return run("neurogen-engine " + kGpus + arguments); }
  void succeeds(const string& arguments) const {
    const ProgramResult result = train_on(arguments);
    EXPECT_EQ(result.status, 0) << arguments << "\n" << result.err;
  }
  std::vector<double> losses(const string& name) const {
    std::vector<double> list;
    for (const json& line : log(name))
      if (line["event"] == "step") list.push_back(line["loss"]);
    return list;
  }
  void expect_close(const std::vector<double>& a, const std::vector<double>& b) const {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-3 * a[i]) << "step " << i + 1;
  }

  const string kGpus =
      "--arch brain.json --seq 16 --data text.bin --progress none --device cuda --compute fp32 --decoder-storage fp32 ";
};

TEST_F(TwoGpus, TrainAsOneDoesOnTheBatchOfBothWithEqualBitsTwice) {
  succeeds("--steps 40 --batch 6 --log 1.jsonl");
  for (const char* name : {"2", "again"})
    succeeds(string("--steps 40 --batch 3 --gpus 2 --compare-every 7 --log ") + name + ".jsonl --export " + name + ".safetensors");
  expect_close(losses("1.jsonl"), losses("2.jsonl"));
  EXPECT_TRUE(read_file(directory_.path("2.safetensors")) == read_file(directory_.path("again.safetensors")));
  succeeds("--steps 40 --batch 1 --accumulate 3 --gpus 2 --log split.jsonl");
  expect_close(losses("1.jsonl"), losses("split.jsonl"));
}

TEST_F(TwoGpus, GoOnAfterAKillOfEitherAndOnOneGpu) {
  const string arguments = kGpus + "--steps 1000000 --checkpoint-dir saved --save-every 5 --resume --log log.jsonl ";
  for (const std::size_t killed : {1, 0}) {
    Started run(directory_, arguments + "--batch 3 --gpus 2");
    const std::vector<pid_t> ranks = run.ranks(2);
    run.wait_for_line("log.jsonl", killed == 1 ? "\"step\":20," : "\"step\":40,");
    kill(ranks.at(killed), SIGKILL);
    EXPECT_EQ(run.status(ranks), killed == 0 ? 128 + SIGKILL : 1);
    expect_sentence(run.err(), killed == 0 ? "rank 0 has ended" : "rank 1 was ended by signal 9");
  }
  Started run(directory_, arguments + "--batch 6");
  run.wait_for_line("log.jsonl", "\"step\":60,");
  kill(run.ranks(1)[0], SIGTERM);
  EXPECT_EQ(run.status(), 143) << run.err();
  EXPECT_GE(Checkpoint(checkpoint_file(directory_.path("saved"))).manifest().standing.steps, 60);
}

}  // namespace
}  // namespace neurogen

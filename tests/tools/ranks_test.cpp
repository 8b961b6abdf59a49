// Several ranks as a user meets them, on CPUs: runs that equal those of one rank, launchers, mistakes, deaths.
#include <functional>
#include <random>

#include "engine/files/checkpoint.h"
#include "engine/files/checkpoint_directory.h"
#include "tests/tools/command_line.h"
#include "tests/tools/started.h"

namespace neurogen {
namespace {

class SeveralRanks : public CommandLine {
 protected:
  std::vector<double> losses(const string& name) const {
    std::vector<double> list;
    for (const json& line : log(name)) {
      if (line["event"] != "step") continue;
      EXPECT_EQ(line["step"], list.size() + 1) << name;
      list.push_back(line["loss"]);
    }
    return list;
  }
  void expect_close(const std::vector<double>& a, const std::vector<double>& b) const {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-3 * a[i]) << "step " << i + 1;
  }
  void succeeds(const string& arguments) const {
    const ProgramResult result = run("neurogen-engine " + kRanks + arguments);
    EXPECT_EQ(result.status, 0) << arguments << "\n" << result.err;
    EXPECT_EQ(result.err, "");
  }
  string file(const string& name) const { return read_file(directory_.path(name)); }

  const string kRanks = "--arch brain.json --seq 16 --threads 1 --data text.bin --progress none --device cpu ";
};

// The variables of a launcher's process; the port depends on the test's process, since tests run side by side.
string torchrun(int rank, int size, int port = 0) {
  const int own = port > 0 ? port : 20'000 + getpid() % 20'000;
  return "RANK=" + std::to_string(rank) + " WORLD_SIZE=" + std::to_string(size) + " LOCAL_RANK=" + std::to_string(rank) +
         " MASTER_ADDR=localhost MASTER_PORT=" + std::to_string(own);
}

TEST_F(SeveralRanks, TrainAsOneDoesOnTheBatchOfAll) {
  succeeds("--steps 40 --batch 6 --log 1.jsonl");
  succeeds("--steps 40 --batch 3 --gpus 2 --log 2.jsonl --compare-every 7 --export 2.safetensors");
  succeeds("--steps 40 --batch 2 --gpus 3 --log 3.jsonl");
  succeeds("--steps 40 --batch 1 --accumulate 3 --gpus 2 --log split.jsonl");
  for (const char* name : {"2.jsonl", "3.jsonl", "split.jsonl"}) expect_close(losses("1.jsonl"), losses(name));
  EXPECT_EQ(log("2.jsonl")[0]["ranks"], 2);
  EXPECT_EQ(log("2.jsonl")[0]["compare_every"], 7);
  EXPECT_FALSE(log("1.jsonl")[0].contains("ranks"));
  EXPECT_EQ(log("2.jsonl").back()["tokens"], 40 * 6 * 16);
  succeeds("--steps 40 --batch 3 --gpus 2 --export again.safetensors");
  EXPECT_TRUE(file("2.safetensors") == file("again.safetensors"));
}

TEST_F(SeveralRanks, AnotherNumberOfThemGoesOn) {
  directory_.file("muon.json", R"({"family": "transformer", "name": "muon", "vocabulary": 300, "width": 32, "layers": 2, "heads": 2,
    "hidden": 48, "context": 16, "norm": "rms", "positions": "rotary", "activation": "silu_gated", "qk_norm": true,
    "qkv_bias": false, "bias": false, "embedding_norm": true, "tied": false})");
  for (const string model : {"brain", "muon"}) {
    SCOPED_TRACE(model);
    string all = kRanks;
    all.replace(all.find("brain"), 5, model);
    const ProgramResult one = run("neurogen-engine " + all + "--steps 40 --batch 6 --log whole.jsonl");
    EXPECT_EQ(one.status, 0) << one.err;
    const string saved = "--checkpoint-dir saved." + model + " --resume --log part.jsonl --steps 40 --save-every 3 --keep 99 ";
    const std::vector<string> worlds = {"--batch 6", "--batch 3 --gpus 2 --snapshot", "--batch 2 --gpus 3",
                                        "--batch 1 --accumulate 3 --gpus 2", "--batch 6"};
    for (std::size_t i = 0; i < worlds.size(); ++i) {
      Started run(directory_, all + saved + worlds[i]);
      if (i + 1 < worlds.size()) {
        const string line = "\"event\":\"step\",\"step\":" + std::to_string(7 * (i + 1)) + ",";
        run.wait_for_line("part.jsonl", line);
        kill(run.ranks(1)[0], SIGTERM);
      }
      const int status = run.status();
      EXPECT_TRUE(status == 143 || status == 0) << run.err();
      EXPECT_EQ(run.err(), "");
    }
    expect_close(losses("whole.jsonl"), losses("part.jsonl"));
    EXPECT_EQ(log("part.jsonl").back()["event"], "summary");
    const ProgramResult done = run("neurogen-engine " + all + saved + "--batch 2 --gpus 3");  // all steps are done
    EXPECT_EQ(done.status, 0) << done.err;
    for (const char* file : {"whole.jsonl", "part.jsonl"}) std::filesystem::remove(directory_.path(file));
  }
}

TEST_F(SeveralRanks, ASignalToAnyRankSavesAndEndsAll) {
  for (const std::size_t receiver : {0, 1}) {
    const string folder = "saved" + std::to_string(receiver);
    Started run(directory_,
                kRanks + "--batch 2 --gpus 2 --steps 1000000 --log log.jsonl --save-every 0 --snapshot --checkpoint-dir " + folder);
    run.wait_for_line("log.jsonl", "\"step\":3,");
    const std::vector<pid_t> ranks = run.ranks(2);
    kill(ranks.at(receiver), SIGTERM);
    EXPECT_EQ(run.status(), 143) << run.err();
    EXPECT_EQ(run.err(), "");
    EXPECT_NE(run.out().find("stopped after"), string::npos);
    EXPECT_GE(Checkpoint(checkpoint_file(directory_.path(folder))).manifest().standing.steps, 3);
    std::filesystem::remove(directory_.path("log.jsonl"));
  }
}

TEST_F(SeveralRanks, AKillOfAnyLosesNothingThatIsSaved) {
  const string arguments = kRanks + "--batch 2 --gpus 3 --steps 1000000 --checkpoint-dir saved --save-every 1 --resume";
  std::mt19937 random(1);
  std::int64_t steps = 0;
  for (int i = 0; i < 15; ++i) {
    Started run(directory_, arguments);
    const std::vector<pid_t> ranks = run.ranks(3);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 400'000));
    const std::size_t killed = i % 3;
    kill(ranks.at(killed), SIGKILL);
    EXPECT_EQ(run.status(ranks), killed == 0 ? 128 + SIGKILL : 1);
    expect_sentence(run.err(), killed == 0
                                   ? "rank 0 has ended: start again with --resume"
                                   : "rank " + std::to_string(killed) + " was ended by signal 9: start again with --resume");
    if (!std::filesystem::exists(directory_.path("saved"))) continue;
    const auto entries = CheckpointDirectory(directory_.path("saved"), 3, false).entries();
    if (entries.empty()) continue;
    const Checkpoint newest(checkpoint_file(directory_.path("saved")));
    newest.verify();
    EXPECT_GE(newest.manifest().standing.steps, steps);
    steps = newest.manifest().standing.steps;
  }
  EXPECT_GT(steps, 15) << "the runs hardly ever got to a save";
}

TEST_F(SeveralRanks, AStoppedRankEndsAll) {
  const string arguments = kRanks + "--batch 2 --gpus 2 --steps 1000000 --log ";
  Started first(directory_, arguments + "0.jsonl", "0"), second(directory_, arguments + "1.jsonl", "1");
  for (const auto* run : {&first, &second}) run->wait_for_line(run == &first ? "0.jsonl" : "1.jsonl", "\"step\":3,");
  const std::vector<pid_t> one = first.ranks(2), other = second.ranks(2);
  kill(one.at(0), SIGSTOP), kill(other.at(1), SIGSTOP);
  EXPECT_EQ(first.status(one), 128 + SIGKILL);
  EXPECT_EQ(second.status(other), 1);
  expect_sentence(first.err(), "rank 0 has not answered for 7 seconds: start again");
  expect_sentence(second.err(), "rank 1 has not answered for 7 seconds: start again");
}

TEST_F(SeveralRanks, AreStartedByLaunchers) {
  succeeds("--steps 9 --batch 2 --gpus 2 --export own.safetensors");
  const string port = " MASTER_PORT=" + std::to_string(20'000 + getpid() % 20'000);
  const auto numbers = [](const string& rank, const string& size, const string& local, int r) {
    return rank + "=" + std::to_string(r) + " " + size + "=2 " + local + "=" + std::to_string(r);
  };
  const std::vector<std::function<string(int)>> launchers = {
      [](int r) { return torchrun(r, 2); },
      [&](int r) {
        return numbers("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", r) +
               " OMPI_COMM_WORLD_LOCAL_SIZE=2" + port;
      },
      [&](int r) { return numbers("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", r) + " MPI_LOCALNRANKS=2" + port; },
      [&](int r) {
        return numbers("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", r) + " SLURM_STEP_NUM_NODES=1" + port;
      }};
  for (const auto& variables : launchers) {
    SCOPED_TRACE(variables(0));
    const string arguments = kRanks + "--steps 9 --batch 2 --export launched.safetensors";
    Started second(directory_, arguments, "1", variables(1)), first(directory_, arguments, "0", variables(0));
    EXPECT_EQ(first.status(), 0) << first.err();
    EXPECT_EQ(second.status(), 0) << second.err();
    EXPECT_EQ(first.err() + second.err() + second.out(), "");
    EXPECT_TRUE(file("own.safetensors") == file("launched.safetensors"));
  }
}

TEST_F(SeveralRanks, ThatDifferAreRefusedInOneSentence) {
  bin("other.bin", std::vector<std::uint16_t>(1000, 7));
  const std::vector<std::pair<string, string>> differences = {
      {"--seed 2", "rank 1 has --seed 2, rank 0 has 1"},
      {"--lr 0.5", "rank 1 has --lr 0.5, rank 0 has 0.004"},
      {"--batch 3", "rank 1 has --batch times --accumulate of 6, rank 0 has 4"},
      {"--data other.bin", "rank 1 has a text of XXH3"},
      {"--budget 2G", "rank 1 has the plan of"},
      {"--threads 2", "rank 1 has the plan of"}};
  for (const auto& [difference, part] : differences) {
    SCOPED_TRACE(difference);
    string other = kRanks + (difference.find("--batch") == 0 ? "" : "--batch 2 ") + difference;
    if (const string option = difference.substr(0, difference.find(' ')); option == "--data" || option == "--threads") {
      const std::size_t at = other.find(option);
      other.erase(at, other.find("--", at + 2) - at);
    }
    Started first(directory_, kRanks + "--steps 9 --batch 2", "0", torchrun(0, 2)),
        second(directory_, other + " --steps 9", "1", torchrun(1, 2));
    EXPECT_EQ(first.status(), 2);
    EXPECT_EQ(second.status(), 2);
    expect_sentence(first.err(), part);
    EXPECT_EQ(second.err(), "");
  }
}

TEST_F(SeveralRanks, AFailureOfOneIsSaidByRankZero) {
  Started first(directory_, kRanks + "--steps 9 --batch 2", "0", torchrun(0, 2)),
      second(directory_, kRanks + "--steps 9 --batch 2 --data missing.bin", "1", torchrun(1, 2));
  EXPECT_EQ(first.status(), 2);
  EXPECT_EQ(second.status(), 2);
  expect_sentence(first.err(), "rank 1: missing.bin does not exist");
  EXPECT_EQ(second.err(), "");
}

TEST_F(SeveralRanks, ThatDoNotComeAreNamed) {
  const string early = kRanks + "--batch 2 --meet-within 0.3";
  refuses("neurogen-engine " + kRanks + "--batch 2 --gpus 2 --data missing.bin", "missing.bin does not exist");
  const auto alone = [&](const string& variables) {
    return run_program_in(directory_, "neurogen-engine " + early, "env " + variables);
  };
  ProgramResult result = alone(torchrun(0, 3));
  EXPECT_EQ(result.status, 2);
  expect_sentence(result.err, "ranks 1, 2 of 3 did not come to localhost:");
  result = alone(torchrun(1, 2));
  EXPECT_EQ(result.status, 1);
  expect_sentence(result.err, "rank 1 did not find rank 0 at localhost:");
  result = alone("RANK=2 WORLD_SIZE=2");
  EXPECT_EQ(result.status, 2);
  expect_sentence(result.err, "the launcher's variable RANK is \"2\"");
  result = run_program_in(directory_, "neurogen-engine " + kRanks + "--batch 2 --gpus 2", "env " + torchrun(0, 2));
  EXPECT_EQ(result.status, 2);
  expect_sentence(result.err, "--gpus starts processes, which torchrun has done already: leave it out");
}

TEST_F(SeveralRanks, HaveAPageOfOnePlan) {
  const ProgramResult refused = run("neurogen-engine " + kRanks + "--batch 2 --gpus 3 --budget 1M");
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(refused.err.find("does not fit into"), refused.err.rfind("does not fit into")) << refused.err;
  const ProgramResult plan = run("plan --arch brain.json --batch 2 --seq 16 --gpus 3 --device cpu");
  EXPECT_NE(plan.out.find("3 ranks x 2 x 16 = 96 tokens a step"), string::npos) << plan.out;
  EXPECT_NE(plan.out.find("3 processes on CPUs, each:"), string::npos) << plan.out;
  EXPECT_NE(run("plan --arch brain.json --batch 2 --seq 16 --gpus 2").out.find("2 GPUs, each:"), string::npos);
}

}  // namespace
}  // namespace neurogen

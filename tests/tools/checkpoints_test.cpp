// Checkpoints as a user meets them: runs that are cut, killed, stopped and resumed, and refusals.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/tools/killed_run.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

class Checkpoints : public testing::Test {
 protected:
  Checkpoints() {
    directory_.file("brain.json", kTestBrain);
    bin("text.bin", 1000, 40), bin("other.bin", 1000, 41), bin("valid.bin", 100, 40);
  }
  void bin(const string& name, std::size_t size, std::size_t factor) const {
    std::vector<std::uint16_t> ids(size);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint16_t>(i * i % 7 * factor + i % 11);
    directory_.file(name, {reinterpret_cast<const char*>(ids.data()), ids.size() * 2});
  }
  ProgramResult run(const string& command) const { return run_program_in(directory_, command); }
  ProgramResult train(const string& arguments) const {
    const ProgramResult result = run("neurogen-engine " + kTrain + arguments);
    EXPECT_EQ(result.status, 0) << arguments << "\n" << result.err;
    return result;
  }
  // One line on standard error that names the program.
  void refuses(const string& command, const string& part, int status = 2) const {
    const ProgramResult result = run("neurogen-engine " + command);
    EXPECT_EQ(result.status, status) << command << "\n" << result.err;
    EXPECT_EQ(result.err.rfind("neurogen-engine: ", 0), 0u) << command << "\n" << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << command << "\n" << result.err;
    EXPECT_NE(result.err.find(part), string::npos) << result.err << "lacks: " << part;
  }
  std::vector<json> log(const string& name) const {
    std::vector<json> lines;
    std::istringstream text(read_file(directory_.path(name)));
    for (string line; std::getline(text, line);) lines.push_back(json::parse(line));
    return lines;
  }
  // The numbers of every step; fails if a step is logged twice or out of order.
  std::vector<json> steps(const string& name) const {
    std::vector<json> list;
    for (const json& line : log(name)) {
      if (line["event"] != "step") continue;
      EXPECT_EQ(line["step"], list.size() + 1) << name;
      list.push_back({line["loss"], line["lr"], line["grad_norm"], line["tokens"]});
    }
    return list;
  }
  int count(const string& name, const string& event) const {
    int number = 0;
    for (const json& line : log(name)) number += line["event"] == event;
    return number;
  }
  std::vector<string> files(const string& name) const {
    std::vector<string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path(name))) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  string checkpoint(const string& folder, int step) const {
    char name[40];
    std::snprintf(name, sizeof name, "/step-%09d.ngck", step);
    return read_file(directory_.path(folder + name));
  }
  // Runs a command and acts on it after this many logged lines; the command's process is $(cat pid).
  ProgramResult disturb(const string& arguments, const string& log_name, int lines, const std::function<void(int)>& act) const {
    directory_.file("go.sh",
                    "echo $$ > pid; exec " + programs_folder() + "/neurogen-engine " + kTrain + arguments + " --log " + log_name);
    std::filesystem::remove(directory_.path("pid"));
    std::thread other([&] {
      for (int i = 0; i < 3000; ++i) {
        const string text = read_file(directory_.path(log_name));
        if (!read_file(directory_.path("pid")).empty() && std::count(text.begin(), text.end(), '\n') >= lines) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      act(std::stoi(read_file(directory_.path("pid"))));
    });
    const ProgramResult result = run("corpus --version && timeout 60 sh go.sh");
    other.join();
    return result;
  }

  const string kTrain = "--arch brain.json --batch 2 --seq 16 --threads 2 --data text.bin --progress none ";
  TemporaryDirectory directory_;
};

TEST_F(Checkpoints, AnotherProcessGoesOnBitForBit) {
  // An epoch has 31 steps.
  train("--steps 70 --log whole.jsonl --checkpoint-dir whole --save-every 25 --keep 9 --valid valid.bin --eval-every 10");
  EXPECT_EQ(files("whole"), (std::vector<string>{".lock", "step-000000025.ngck", "step-000000050.ngck", "step-000000070.ngck"}));
  const json plan = json::parse(run("plan --json --arch brain.json --batch 2 --seq 16 --threads 3").out);
  for (const string& other :
       std::vector<string>{"--save-every 25 --keep 9", "--save-every 7 --keep 1 --threads 1 --keep-best",
                           "--threads 3 --budget " + std::to_string(plan["minimum_budget_bytes"].get<long>())}) {
    run("corpus --version && rm -rf part && mkdir part && cp whole/step-000000025.ngck part && cp whole.jsonl part.jsonl");
    string arguments = kTrain;
    if (other.find("--threads") != string::npos) arguments.erase(arguments.find("--threads"), 12);
    const ProgramResult result =
        run("neurogen-engine " + arguments + "--steps 70 --log part.jsonl --checkpoint-dir part --resume " +
            "--valid valid.bin --eval-every 10 " + other);
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("resuming from part/step-000000025.ngck: 25 steps are done"), string::npos) << result.out;
    EXPECT_EQ(steps("part.jsonl"), steps("whole.jsonl"));
    EXPECT_TRUE(checkpoint("part", 70) == checkpoint("whole", 70));
    EXPECT_EQ(count("part.jsonl", "start"), 1);
    EXPECT_EQ(count("part.jsonl", "resume"), 1);
    EXPECT_EQ(count("part.jsonl", "summary"), 1);
    EXPECT_EQ(log("part.jsonl").back()["event"], "summary");
    EXPECT_EQ(log("part.jsonl").back()["tokens"], 70 * 32);
    EXPECT_EQ(count("part.jsonl", "eval"), other.find("best") == string::npos ? 7 : 13);
  }
  // A complete run has nothing left to do and leaves its log unchanged.
  const string before = read_file(directory_.path("part.jsonl"));
  EXPECT_NE(train("--steps 70 --checkpoint-dir part --resume --log part.jsonl").out.find("all 70 steps are done"), string::npos);
  EXPECT_EQ(read_file(directory_.path("part.jsonl")), before);
}

TEST_F(Checkpoints, AKilledRunGoesOn) {
  train("--steps 60 --log whole.jsonl --checkpoint-dir whole");
  for (const string save : {"--save-every 4 ", "--save-every 1 --snapshot "}) {
    run("corpus --version && rm -rf part part.jsonl");
    const string arguments = "--steps 60 --checkpoint-dir part --resume " + save;
    for (int lines = 1; lines < 60; lines += 13) {
      disturb(arguments, "part.jsonl", lines, [](int process) { kill(process, SIGKILL); });
    }
    directory_.file("part/saving.part", "a save that was killed");
    train(arguments + " --log part.jsonl");
    EXPECT_EQ(steps("part.jsonl"), steps("whole.jsonl"));
    EXPECT_TRUE(checkpoint("part", 60) == checkpoint("whole", 60));
    EXPECT_EQ(files("part").size(), 4u);
  }
}

TEST_F(Checkpoints, ARunThatIsKilledAtAnyMomentLeavesAWholeOne) { KilledRun().kill_and_check(20, 1); }
TEST_F(Checkpoints, ARunThatIsKilledWhileItSavesBesideTrainingLeavesAWholeOne) { KilledRun("--snapshot").kill_and_check(12, 3); }

TEST_F(Checkpoints, ASignalSaves) {
  int more = 5;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const ProgramResult result =
        disturb("--steps 100000 --checkpoint-dir saved --resume", "log.jsonl", more, [&](int process) { kill(process, number); });
    EXPECT_EQ(result.status, 128 + number) << result.err;
    const auto lines = log("log.jsonl");
    const json &saved = lines[lines.size() - 2], &summary = lines.back();
    EXPECT_EQ(saved["event"], "checkpoint");
    EXPECT_EQ(summary["event"], "summary");
    EXPECT_EQ(saved["step"], summary["steps"]);
    EXPECT_EQ(files("saved").back(), saved["path"].get<string>().substr(6));
    EXPECT_GT(saved["ms"], 0.0);
    more = static_cast<int>(lines.size()) + 5;
    EXPECT_NE(result.out.find("the newest checkpoint is " + saved["path"].get<string>()), string::npos) << result.out;
  }
}

TEST_F(Checkpoints, OneRunADirectoryAndOneDirectoryARun) {
  const ProgramResult result = disturb("--steps 100000 --checkpoint-dir saved", "log.jsonl", 3, [&](int process) {
    directory_.file("second.sh", programs_folder() + "/neurogen-engine " + kTrain + "--steps 9 --checkpoint-dir saved --resume");
    EXPECT_EQ(std::system(("cd " + directory_.path("") + " && sh second.sh 2>second.err").c_str()) / 256, 2);
    kill(process, SIGTERM);
  });
  EXPECT_EQ(result.status, 128 + SIGTERM);
  EXPECT_NE(read_file(directory_.path("second.err")).find("saved is in use by another run"), string::npos);
  refuses(kTrain + "--steps 9 --checkpoint-dir saved", "saved holds checkpoints up to step ");
  EXPECT_NE(train("--steps 3 --checkpoint-dir new --resume").out.find("new holds no checkpoint yet: starting from scratch"),
            string::npos);
  EXPECT_EQ(files("new"), (std::vector<string>{".lock", "step-000000003.ngck"}));
}

TEST_F(Checkpoints, AnotherRunIsRefusedAndNamed) {
  train("--steps 9 --checkpoint-dir saved --seed 4");
  const string same = "--steps 9 --checkpoint-dir saved --resume --seed 4 ";
  const auto before = checkpoint("saved", 9);
  const auto changed = [&](const string& from, const string& to) {
    string all = kTrain + same;
    all.replace(all.find(from), from.size(), to);
    return all;
  };
  string wide = kTestBrain;
  wide.replace(wide.find("\"neurons\": 320"), 14, "\"neurons\": 256");
  directory_.file("wide.json", wide);
  refuses(changed("brain.json", "wide.json"), "holds the model test with broca.neurons 320, requested is test with 256");
  refuses(changed("text.bin", "other.bin"), "was trained on a text of 1000 tokens");
  refuses(changed("--seed 4", "--seed 5"), "--seed 4, now it is 5");
  refuses(changed("--batch 2", "--batch 3"), "--batch 2, now it is 3");
  refuses(changed("--seq 16", "--seq 8"), "--seq 16, now it is 8");
  refuses(changed("--steps 9", "--steps 10"), "a number of steps 9, now it is 10");
  refuses(kTrain + same + "--lr 0.1", "--lr 0.004, now it is 0.1");
  refuses(kTrain + same + "--decoder-lr 0.1", "--decoder-lr 0.001, now it is 0.1");
  refuses(kTrain + same + "--table-lr 0.1", "--table-lr 0.25, now it is 0.1");
  refuses(kTrain + same + "--warmup 7", "--warmup 100, now it is 7");
  refuses(kTrain + same + "--decoder-tile 7", "--decoder-tile 1280, now it is 7");
  refuses(kTrain + same + "--document-end 7", "--document-end -1, now it is 7");
  refuses(kTrain + "--steps 9 --resume", "--resume needs the directory");
  refuses(kTrain + "--steps 9 --keep-best", "--keep-best keeps checkpoints");
  refuses(kTrain + "--steps 9 --keep-best --checkpoint-dir d", "--keep-best compares losses");
  refuses(kTrain + "--steps 9 --keep 0 --checkpoint-dir d", "--keep is 0");
  refuses(kTrain + "--steps 9 --save-every -1 --checkpoint-dir d", "--save-every is -1");
  refuses(kTrain + "--steps 9 --checkpoint-dir text.bin", "text.bin cannot be used for checkpoints: Not a directory");
  EXPECT_TRUE(checkpoint("saved", 9) == before);
  // Settings that change no bit of the arithmetic may differ.
  train(same + "--keep 7 --save-every 3 --budget 1G --eval-every 4 --valid valid.bin");
}

TEST_F(Checkpoints, ATokenizerBelongsToItsBrain) {
  string text;
  for (int i = 0; i < 200; ++i)
    text += "the " + std::to_string(i) + "th line of the text has the number " + std::to_string(i) + "\n";
  directory_.file("text.txt", text);
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 290 --out t.model").status, 0);
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 295 --out u.model").status, 0);
  train("--tokenizer t.model --steps 9 --checkpoint-dir saved");
  refuses(kTrain + "--tokenizer u.model --steps 9 --checkpoint-dir saved --resume", "was trained with the tokenizer of XXH3 ");
  EXPECT_EQ(run("neurogen-engine " + kTrain + "--steps 9 --checkpoint-dir saved --resume").status, 0) << "it brings its own";
  refuses(kTrain + "--tokenizer u.model --steps 9 --init saved/step-000000009.ngck", "was trained with another tokenizer (XXH3 ");
  for (const char* use : {"generate --checkpoint saved --prompt the", "eval --checkpoint saved --data text.txt --seq 16"}) {
    refuses(use + string(" --tokenizer u.model"), "was trained with another tokenizer (XXH3 ");
    EXPECT_EQ(run("neurogen-engine " + string(use) + " --tokenizer t.model").status, 0);
  }
  EXPECT_EQ(run("neurogen-engine generate --tokenizer t.model --checkpoint saved").out,
            run("neurogen-engine generate --tokenizer t.model --init saved/step-000000009.ngck").out);
}

TEST_F(Checkpoints, InspectExportAndInit) {
  train("--steps 9 --checkpoint-dir saved --export w.safetensors --seed 77 --valid valid.bin --keep-best");
  const json all = json::parse(run("neurogen-engine inspect saved --json --verify").out);
  EXPECT_EQ(all["steps"], 9);
  EXPECT_EQ(all["seed"], 77);
  EXPECT_EQ(all["architecture"], json::parse(kTestBrain));
  EXPECT_TRUE(all["held_out_loss"].is_number());
  EXPECT_EQ(all["tensors"][0]["name"], "embedding.weight");
  EXPECT_EQ(all["tensors"][0]["shape"], json({300, 32}));
  EXPECT_EQ(all["tensors"][0]["end"], 300 * 32 * 4);
  for (const json& tensor : all["tensors"]) EXPECT_EQ(tensor["intact"], true);
  EXPECT_EQ(all["image_begin"].get<std::size_t>() + all["image_bytes"].get<std::size_t>(), checkpoint("saved", 9).size());
  EXPECT_NE(run("neurogen-engine inspect saved/step-000000009.ngck").out.find("decoder.weight"), string::npos);

  ASSERT_EQ(run("neurogen-engine export --checkpoint saved --safetensors e.safetensors").status, 0);
  EXPECT_TRUE(read_file(directory_.path("e.safetensors")) == read_file(directory_.path("w.safetensors")));
  // Three ways to the same weights.
  const string use = "neurogen-engine eval --data valid.bin --seq 16 --batch 2 --threads 1 ";
  const ProgramResult by_name = run(use + "--init w.safetensors");
  EXPECT_EQ(by_name.status, 0) << by_name.err;
  for (const char* way : {"--checkpoint saved", "--checkpoint saved/step-000000009.ngck", "--init saved/step-000000009.ngck"}) {
    EXPECT_EQ(run(use + way).out, by_name.out) << way;
  }
  const string fresh = "--steps 3 --data other.bin --log ";
  train(fresh + "a.jsonl --init w.safetensors");
  train(fresh + "b.jsonl --init saved/step-000000009.ngck");
  refuses("--arch tiny --data text.bin --steps 3 --init saved/step-000000009.ngck", "holds the model test with vocabulary 300");
  EXPECT_EQ(steps("a.jsonl"), steps("b.jsonl"));

  string bytes = checkpoint("saved", 9);
  bytes[bytes.size() / 2] ^= 1;
  directory_.file("bad.ngck", bytes);
  const ProgramResult bad = run("neurogen-engine inspect bad.ngck --verify");
  EXPECT_EQ(bad.status, 2);
  EXPECT_NE(bad.out.find("DAMAGED"), string::npos);
  refuses("export --checkpoint none --safetensors e.safetensors", "none does not exist");
  refuses("inspect text.bin", "text.bin is not a checkpoint");
  refuses("eval --data valid.bin", "--init");
  refuses("eval --data valid.bin --init a --checkpoint b", "--init");
  refuses("eval --data valid.bin --checkpoint saved --arch tiny", "holds the model test with vocabulary 300");
  refuses("eval --data valid.bin --checkpoint .", "holds no checkpoint");
}

TEST_F(Checkpoints, ADamagedOneIsRefusedUnlessNobodyLooks) {
  train("--steps 9 --checkpoint-dir saved --save-every 4");
  run("corpus --version && rm saved/step-000000009.ngck");
  string bytes = checkpoint("saved", 8);
  bytes[bytes.size() - 100] ^= 1;  // in an optimizer's state
  directory_.file("saved/step-000000008.ngck", bytes);
  const string again = kTrain + "--steps 9 --checkpoint-dir saved --resume ";
  refuses(again, "saved/step-000000008.ngck is damaged: decoder.column differs from what was saved: use the checkpoint before it");
  EXPECT_EQ(run("neurogen-engine eval --checkpoint saved --data valid.bin").status, 0);
  EXPECT_EQ(run("neurogen-engine " + again + "--no-verify --keep 9").status, 0);
  directory_.file("saved/step-000000009.ngck", bytes.substr(0, bytes.size() - 1));
  refuses(again, "its manifest says");
  directory_.file("saved/step-000000009.ngck", bytes);
  refuses(again, "saved/step-000000009.ngck holds step 8");
  run("corpus --version && rm saved/step-000000008.ngck saved/step-000000009.ngck");
  EXPECT_EQ(run("neurogen-engine " + again).status, 0);
}

TEST_F(Checkpoints, AFailedSaveStopsNoTrainingButTheLastIsReported) {
  // The log fits under the limit on a file's size; a checkpoint does not.
  directory_.file("go.sh", "ulimit -f 400; exec " + programs_folder() + "/neurogen-engine " + kTrain +
                               "--steps 9 --save-every 3 --checkpoint-dir saved --log l.jsonl");
  const ProgramResult result = run("corpus --version && sh go.sh");
  EXPECT_EQ(result.status, 1) << result.err;
  string expected;
  for (const char* step : {"3", "6", "9"}) {
    expected += "neurogen-engine: the checkpoint of step " + string(step) +
                " cannot be written in saved: File too large: older checkpoints stay" +
                (*step == '9' ? "\n" : ", training goes on\n");
  }
  EXPECT_EQ(result.err, expected);
  EXPECT_EQ(steps("l.jsonl").size(), 9u);
  EXPECT_EQ(count("l.jsonl", "checkpoint_failed"), 3);
  EXPECT_EQ(files("saved"), (std::vector<string>{".lock"}));
}

TEST_F(Checkpoints, ADirectoryThatIsGoneStopsNoTraining) {
  const ProgramResult result = disturb("--steps 100000 --checkpoint-dir saved --save-every 1", "log.jsonl", 9, [&](int process) {
    std::filesystem::rename(directory_.path("saved"), directory_.path("elsewhere"));
    const auto failed = [&] { return read_file(directory_.path("log.jsonl")).find("checkpoint_failed") != string::npos; };
    for (int i = 0; i < 3000 && !failed(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    kill(process, SIGTERM);
  });
  EXPECT_EQ(result.status, 1);  // the last one is missing
  EXPECT_NE(result.err.find(" cannot be created in saved: No such file or directory: older checkpoints stay, training goes on\n"),
            string::npos);
  EXPECT_TRUE(result.err.ends_with(": No such file or directory: older checkpoints stay\n")) << result.err;
  EXPECT_GE(count("log.jsonl", "checkpoint_failed"), 2);
  EXPECT_EQ(run("neurogen-engine inspect elsewhere --verify").status, 0);
}

TEST_F(Checkpoints, ABadLossKeepsTheLastGoodOne) {
  const ProgramResult result =
      run("neurogen-engine " + kTrain + "--steps 300 --lr 1000 --synapse-lr 1000 --table-lr 1000 --decoder-lr 1000 " +
          "--warmup 0 --checkpoint-dir saved --save-every 1 --keep 1");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("not finite: train with a lower --lr"), string::npos) << result.err;
  EXPECT_EQ(files("saved").size(), 2u);
  const json all = json::parse(run("neurogen-engine inspect saved --json --verify").out);
  for (const json& tensor : all["tensors"]) EXPECT_TRUE(tensor["range"].is_array()) << tensor["name"];
}

TEST_F(Checkpoints, AFileThatIsCutUnderARunIsPutIntoWords) {
  disturb("--steps 100000 --checkpoint-dir saved", "log.jsonl", 3, [](int process) { kill(process, SIGTERM); });
  const string newest = "saved/" + files("saved").back();
  const auto lines = log("log.jsonl").size();
  const ProgramResult result = disturb("--steps 100000 --checkpoint-dir saved --resume", "log.jsonl", static_cast<int>(lines) + 3,
                                       [&](int) { std::filesystem::resize_file(directory_.path(newest), 5000); });
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err,
            "neurogen-engine: a file was cut short, or cannot be read any more, while it was in use: put it back and "
            "start again\n");
}

}  // namespace
}  // namespace neurogen

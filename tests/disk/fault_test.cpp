// A disk that is full, refuses, interrupts or accepts only a part: one sentence, and every older checkpoint unchanged.
#include <sys/mount.h>

#include <array>

#include "tests/disk/disk.h"
#include "tests/engine/restart.h"
#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class FaultTest : public testing::Test {
 protected:
  FaultTest()
      : text_([this] {
          Random random(8);
          settings_.architecture = random_brain(random);
          settings_.options.batch = 2, settings_.options.window = 16;
          return random_text(random, directory_, settings_.architecture, 200);
        }()),
        session_(planned(build_training(settings_.architecture, settings_.options), kPlenty)),
        saved_(directory_.path("saved"), 2, false),
        saver_(session_, manifest_of(settings_, text_), saved_) {
    initialize(session_.model, session_.program, 5);
    save(1);
    disk::record(directory_.path("saved"));
  }
  ~FaultTest() override { disk::stop(); }

  void save(std::int64_t step) { ASSERT_EQ(saver_.save({step, 99}), Saved::yes) << saver_.error(); }

  TemporaryDirectory directory_;
  RestartSettings settings_;
  Tokens text_;
  Session session_;
  CheckpointDirectory saved_;
  Saver saver_;
};

TEST_F(FaultTest, InterruptionsAndShortWritesChangeNothing) {
  disk::set_faults({.interrupt = true, .shorten = true});
  save(2);
  const Checkpoint second(saved_.file(2));
  second.verify();
  const string first = read_file(saved_.file(1));
  EXPECT_TRUE(read_file(saved_.file(2)).substr(second.image_begin()) == first.substr(second.image_begin()));
}

TEST_F(FaultTest, EveryCallOfASaveMayFail) {
  const string first = read_file(saved_.file(1));
  int failed = 0, unnoticed = 0;
  for (int call = 0;; ++call) {
    SCOPED_TRACE(testing::Message() << "call " << call);
    const int error = std::array{EIO, ENOSPC, EROFS, EDQUOT}[static_cast<std::size_t>(call % 4)];
    disk::set_faults({.refuse = call, .error = error});
    const Saved result = saver_.save({2, 99});
    if (disk::refused() == 0) break;
    if (result == Saved::yes) {
      ++unnoticed;  // room that cannot be reserved, an old file that cannot be deleted
    } else {
      ++failed;
      const string sentence = saver_.error();
      EXPECT_EQ(sentence.rfind("the checkpoint of step 2 cannot be ", 0), 0u) << sentence;
      EXPECT_TRUE(sentence.ends_with(std::string(" in ") + saved_.path() + ": " + strerrordesc_np(error))) << sentence;
    }
    EXPECT_TRUE(read_file(saved_.file(1)) == first);
    for (const auto& entry : std::filesystem::directory_iterator(saved_.path())) {
      const string name = entry.path().filename();
      if (name == ".lock" || name == "step-000000001.ngck") continue;
      ASSERT_EQ(name, "step-000000002.ngck");
      const Checkpoint second(entry.path());  // the name exists, but its directory could not be synced
      second.verify();
    }
    std::filesystem::remove(saved_.file(2));
  }
  EXPECT_GT(failed, 100);
  EXPECT_LE(unnoticed, 2);
  disk::set_faults({});
  save(2);
}

// The program on a small disk.
class FullDisk : public testing::Test {
 protected:
  FullDisk() {
    directory_.file("brain.json", kTestBrain);
    directory_.file("text.bin", string(2000, '\0'));
    std::filesystem::create_directory(directory_.path("disk"));
  }
  ~FullDisk() override { umount(directory_.path("disk").c_str()); }
  bool mount_disk(const char* size) const { return mount("none", directory_.path("disk").c_str(), "tmpfs", 0, size) == 0; }
  ProgramResult train(const string& arguments) const {
    return run_program_in(directory_, "neurogen-engine --arch brain.json --batch 2 --seq 16 --threads 1 --data text.bin " +
                                          arguments + " --progress none");
  }
  TemporaryDirectory directory_;
};

class FullDiskOf : public FullDisk, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Saves, FullDiskOf, testing::Values("", " --snapshot"));

TEST_P(FullDiskOf, OlderOnesStayAndTrainingGoesOn) {
  if (!mount_disk("size=1200k")) GTEST_SKIP() << "mounting a small disk: " << std::strerror(errno);
  // There is room for two of 526 kB.
  const ProgramResult result =
      train("--steps 9 --save-every 2 --keep 3 --checkpoint-dir disk/saved --log log.jsonl" + string(GetParam()));
  EXPECT_EQ(result.status, 1);
  string expected;
  for (const char* step : {"6", "8", "9"}) {
    expected += "neurogen-engine: the checkpoint of step " + string(step) +
                " cannot be written in disk/saved: No space left on device: " + "older checkpoints stay" +
                (*step == '9' ? "\n" : ", training goes on\n");
  }
  EXPECT_EQ(result.err, expected);
  for (const std::int64_t step : {2, 4}) {
    const Checkpoint file(directory_.path("disk/saved/step-00000000" + std::to_string(step) + ".ngck"));
    EXPECT_EQ(file.manifest().standing.steps, step);
    file.verify();
  }
  EXPECT_FALSE(std::filesystem::exists(directory_.path("disk/saved/saving.part")));
  // Existing checkpoints are not given up for one that could not be written.
  const ProgramResult again =
      train("--steps 9 --save-every 2 --keep 1 --checkpoint-dir disk/saved --resume --log log.jsonl" + string(GetParam()));
  EXPECT_EQ(again.status, 1);
  EXPECT_NE(again.out.find("resuming from disk/saved/step-000000004.ngck"), string::npos) << again.out;
}

// The log's disk is full: the run complains once, goes on, saves and exports, and finally says how many lines are missing.
TEST_F(FullDisk, ALogThatCannotBeWrittenEndsNoTraining) {
  if (!mount_disk("size=96k")) GTEST_SKIP() << "mounting a small disk: " << std::strerror(errno);
  const ProgramResult result =
      train("--steps 600 --checkpoint-dir saved --save-every 100 --export w.safetensors --log disk/log.jsonl");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "neurogen-engine: disk/log.jsonl: cannot write the log: No space left on device: training goes on\n");
  EXPECT_NE(result.out.find("disk/log.jsonl lacks "), string::npos) << result.out;
  EXPECT_EQ(Checkpoint(directory_.path("saved/step-000000600.ngck")).manifest().standing.steps, 600);
  EXPECT_TRUE(std::filesystem::exists(directory_.path("w.safetensors")));
  // The log holds only whole lines.
  const string log = read_file(directory_.path("disk/log.jsonl"));
  EXPECT_TRUE(log.ends_with("}\n"));
  EXPECT_EQ(run_program_in(directory_, "neurogen-engine report disk/log.jsonl --out page.html").status, 0);
  EXPECT_EQ(train("--steps 600 --checkpoint-dir saved --resume --log disk/log.jsonl").status, 0);
}

TEST_F(FullDisk, ADiskThatCannotBeWrittenIsRefused) {
  if (!mount_disk("size=16k")) GTEST_SKIP() << "mounting a small disk: " << std::strerror(errno);
  ASSERT_EQ(mount("none", directory_.path("disk").c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr), 0);
  for (const char* name : {"disk", "disk/saved"}) {
    const ProgramResult result = train("--steps 9 --checkpoint-dir " + string(name));
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.err.rfind("neurogen-engine: " + string(name) + " cannot be ", 0), 0u) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

}  // namespace
}  // namespace neurogen

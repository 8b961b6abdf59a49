// After a crash of the machine at any moment, a directory holds only whole checkpoints, the newest no older than the last save that
// was reported as done.
#include "tests/disk/crash.h"

#include "tests/engine/restart.h"

namespace neurogen {
namespace {

using std::string;

class CrashTest : public testing::Test {
 protected:
  CrashTest() {
    Random random(7);
    BrainShape shape = random_architecture(random);
    settings_.architecture = brain(shape);
    settings_.options.batch = 2, settings_.options.window = 16;
    const Tokens text = random_text(random, directory_, settings_.architecture, 200);
    shape.name = "crash";
    settings_.architecture = brain(shape);
    Session session(planned(build_training(settings_.architecture, settings_.options), kPlenty));
    initialize(session.model, session.program, 5);
    const string path = directory_.path("disk/under/checkpoints");
    std::filesystem::create_directory(directory_.path("disk"));
    float& value = session.program.view(session.model.parameter("broca.gain").value).as<float>()[1];
    disk::record(directory_.path("disk"));
    for (const std::int64_t begin : {1, 4}) {  // the second run resumes in the first one's directory
      CheckpointDirectory saved(path, 2, true);
      Saver saver(session, manifest_of(settings_, text), saved);
      for (std::int64_t step = begin; step < begin + 3; ++step) {
        value = NAN;
        EXPECT_EQ(saver.save({step, 9, 2.5}), Saved::not_finite);
        value = static_cast<float>(step);
        EXPECT_EQ(saver.save({step, 9, step == 2 ? 1.0 : 2.0}), Saved::yes) << saver.error();
        disk::note(static_cast<std::uint64_t>(step));
        whole_[step] = read_file(saved.file(step));
      }
    }
    calls_ = disk::stop();
  }

  // The faults in the states that a crash may leave, and their number.
  std::pair<int, string> mistakes() {
    int outcomes = 0, wrong = 0;
    string first;
    Crash::at_every_moment(calls_, ".ngck", [&](const Crash::Files& left, std::uint64_t noted, const string& when) {
      const TemporaryDirectory after;
      std::filesystem::create_directories(after.path("under/checkpoints"));
      for (const auto& [name, bytes] : left) after.file(name, bytes);
      ++outcomes;
      try {
        const CheckpointDirectory found(after.path("under/checkpoints"), 2, true);
        const auto& entries = found.entries();
        if ((entries.empty() ? 0 : entries.back().step) < static_cast<std::int64_t>(noted)) {
          throw Error("step " + std::to_string(noted) + " was said to be saved");
        }
        for (const auto& entry : entries) {
          const Checkpoint file(found.file(entry.step));
          file.verify();
          if (read_file(file.path()) != whole_.at(file.manifest().standing.steps)) throw Error("other bytes than were saved");
        }
      } catch (const Error& error) {
        if (++wrong == 1) first = when + ": " + error.what();
      }
    });
    EXPECT_GT(outcomes, 5);
    return {wrong, first};
  }
  void forget(DiskCall::Kind kind) {
    std::erase_if(calls_, [&](const DiskCall& call) { return call.kind == kind; });
  }

  TemporaryDirectory directory_;
  RestartSettings settings_;
  std::map<std::int64_t, string> whole_;
  std::vector<DiskCall> calls_;
};

TEST_F(CrashTest, LeavesWholeCheckpointsAtEveryMoment) {
  const auto [wrong, first] = mistakes();
  EXPECT_EQ(wrong, 0) << first;
}

// The test would detect a saver that does less.
TEST_F(CrashTest, AFileThatIsNotSyncedIsMissed) {
  forget(DiskCall::sync);
  EXPECT_GT(mistakes().first, 0);
}

TEST_F(CrashTest, ADirectoryThatIsNotSyncedIsMissed) {
  forget(DiskCall::sync_directory);
  const auto second =
      std::find_if(calls_.begin(), calls_.end(), [](const DiskCall& c) { return c.kind == DiskCall::note && c.where == 2; });
  calls_.erase(second, calls_.end());  // two to the power of all names ever changed would be too many outcomes
  EXPECT_GT(mistakes().first, 0);
}

}  // namespace
}  // namespace neurogen

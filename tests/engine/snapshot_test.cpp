// Saving during training: a save holds the values at its beginning, whatever happens to them afterwards.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/engine/restart.h"

namespace neurogen {
namespace {

using std::string;

// A directory whose disk does not start before it is told to.
class SlowDisk final : public CheckpointPlace {
 public:
  explicit SlowDisk(const string& path) : directory_(path, 9, false) {}
  void go_on() {
    const std::lock_guard lock(mutex_);
    ++allowed_;
    changed_.notify_all();
  }
  string file(std::int64_t step) const { return read_file(directory_.file(step)); }

  const char* path() const override { return directory_.path(); }
  int begin() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return allowed_ > 0; });
    --allowed_;
    return directory_.begin();
  }
  bool finish(int descriptor, const Entry& entry) override { return directory_.finish(descriptor, entry); }
  void abandon(int descriptor) override { directory_.abandon(descriptor); }

 private:
  CheckpointDirectory directory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int allowed_ = 0;
};

// From a CPU's arena, and through the staging buffer as from a GPU (0 threads).
class Snapshots : public testing::TestWithParam<std::int64_t> {
 protected:
  Snapshots()
      : text_([this] {
          Random random(9);
          settings_.architecture = random_brain(random);
          settings_.options.batch = 2, settings_.options.window = 16, settings_.options.target = {GetParam() == 0, 2, 0};
          return random_text(random, directory_, settings_.architecture, 200);
        }()),
        session_(planned(model(), {kPlenty.bytes, kPlenty.overhead, Snapshot::in_budget})) {
    initialize(session_.model, session_.program, 5);
  }
  Model model() const { return build_training(settings_.architecture, settings_.options); }
  // The last saved number, and one that is not the first.
  float& value() const {
    const TensorView weight = session_.program.view(session_.model.parameter("broca.gain").value);
    return weight.as<float>()[weight.elements() - 1];
  }
  Manifest manifest() const { return manifest_of(settings_, text_); }
  // A file of the current values, saved without a snapshot.
  string expected(const Standing& standing) const {
    Session plain(planned(model(), kPlenty));
    for (const TensorId id : persistent_tensors(plain.arena.plan())) {
      const TensorView from = session_.program.view(id);
      plain.program.write(id, from.data, plain.arena.plan().buffers[id.index].bytes);
    }
    CheckpointDirectory place(directory_.path("plain"), 9, false);
    EXPECT_EQ(Saver(plain, manifest(), place).save(standing), Saved::yes);
    return read_file(place.file(standing.steps));
  }

  TemporaryDirectory directory_;
  RestartSettings settings_;
  Tokens text_;
  Session session_;
};
INSTANTIATE_TEST_SUITE_P(Devices, Snapshots, testing::Values(2, 0));

TEST_P(Snapshots, HoldWhatWasThereWhenASaveBegan) {
  ASSERT_EQ(static_cast<bool>(session_.model.ports.staging), GetParam() == 0);
  SlowDisk disk(directory_.path("slow"));
  Saver saver(session_, manifest(), disk);
  EXPECT_FALSE(saver.result(true));
  value() = 1;
  const string first = expected({1, 9});
  saver.begin({1, 9});
  EXPECT_FALSE(saver.result(false));
  value() = 2;
  const string second = expected({2, 9, 0.5});
  ASSERT_NE(first, second);
  // The second save waits for the disk; otherwise the first would save the second's values.
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    disk.go_on();
  });
  saver.begin({2, 9, 0.5});
  EXPECT_TRUE(disk.file(1) == first);
  value() = 3;
  EXPECT_FALSE(saver.result(false));
  disk.go_on();
  EXPECT_EQ(saver.result(true), Saved::yes);
  EXPECT_FALSE(saver.result(true));
  EXPECT_TRUE(disk.file(2) == second);
  EXPECT_GT(saver.milliseconds(), 0);
}

TEST_P(Snapshots, ThatAreNotFiniteOrCannotBeWrittenAreReported) {
  CheckpointDirectory place(directory_.path("saved"), 9, false);
  Saver saver(session_, manifest(), place);
  value() = NAN;
  saver.begin({1, 9});
  value() = 1;
  EXPECT_EQ(saver.result(true), Saved::not_finite);
  EXPECT_TRUE(place.entries().empty());
  std::filesystem::rename(place.path(), directory_.path("elsewhere"));
  saver.begin({2, 9});
  EXPECT_EQ(saver.result(true), Saved::no);
  EXPECT_EQ(string(saver.error()),
            "the checkpoint of step 2 cannot be created in " + string(place.path()) + ": No such file or directory");
  std::filesystem::rename(directory_.path("elsewhere"), place.path());
  EXPECT_EQ(saver.save({3, 9}), Saved::yes);
  EXPECT_TRUE(read_file(place.file(3)) == expected({3, 9}));
}

TEST_P(Snapshots, AreWrittenBeforeTheirSaverEnds) {
  CheckpointDirectory place(directory_.path("saved"), 9, false);
  Saver(session_, manifest(), place).begin({1, 9});
  EXPECT_TRUE(read_file(place.file(1)) == expected({1, 9}));
}

}  // namespace
}  // namespace neurogen

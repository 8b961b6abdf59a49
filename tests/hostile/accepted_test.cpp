// Changed files that no check can detect: programs that read them end in order.
#include <cmath>

#include "engine/data/tokens.h"
#include "tests/hostile/damage.h"
#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class Accepted : public testing::Test {
 protected:
  Accepted() { directory_.file("text.bin", string(1000, '\0')); }
  // Every use of a changed file ends well or with one sentence.
  template <typename Change>
  void check(const string& what, Change&& change) const {
    SCOPED_TRACE(what);
    string bytes = read_file(kVersion2);
    manifest_in(bytes).mutate_text_hash(Tokens({directory_.path("text.bin")}, nullptr).hash());
    change(manifest_in(bytes));
    seal(bytes);
    std::filesystem::create_directory(directory_.path("saved"));
    char name[40];
    std::snprintf(name, sizeof name, "saved/step-%09lu.ngck", manifest_in(bytes).steps());
    directory_.file(name, bytes);
    const string train = "train --batch 2 --seq 16 --seed 7 --data text.bin --progress none --threads 1 ";
    for (const string& use : std::initializer_list<string>{
             "inspect saved --verify", "export --checkpoint saved --safetensors out", "eval --checkpoint saved --data text.bin",
             "train --init " + string(name) + " --data text.bin --batch 2 --seq 16 --steps 2 --progress none",
             train + "--steps 3 --checkpoint-dir saved --resume", train + "--minutes 0.001 --checkpoint-dir saved --resume"}) {
      const ProgramResult result = run_program_in(directory_, "neurogen-engine " + use);
      const bool sentence =
          result.err.starts_with("neurogen-engine: ") && std::count(result.err.begin(), result.err.end(), '\n') == 1;
      EXPECT_TRUE(result.status == 0 || ((result.status == 1 || result.status == 2) && sentence))
          << use << ": status " << result.status << "\n"
          << result.err.substr(0, 1000);
    }
    std::filesystem::remove_all(directory_.path("saved"));
  }

  TemporaryDirectory directory_;
};

using M = schema::Manifest;
constexpr std::uint64_t kMost = INT64_MAX;

TEST_F(Accepted, Types) {
  for (int type = 0; type < 8; ++type) {
    check("compute " + std::to_string(type), [&](M& m) { m.mutate_compute(static_cast<schema::Type>(type)); });
    check("decoder " + std::to_string(type), [&](M& m) { m.mutate_decoder_storage(static_cast<schema::Type>(type)); });
  }
}

TEST_F(Accepted, Numbers) {
  check("tile", [](M& m) { m.mutate_vocabulary_tile(kMost); });
  check("batch and window", [](M& m) { m.mutate_batch(1 << 20), m.mutate_window(1 << 20); });
  check("schedule", [](M& m) { m.mutate_schedule_steps(5); });
  check("no schedule", [](M& m) { m.mutate_schedule_steps(0); });
  constexpr std::uint64_t kSteps = kMost / 2 / 32;  // the most steps that are read
  for (const std::uint64_t schedule : {std::uint64_t{0}, kSteps + 2}) {
    check("steps", [&](M& m) {
      m.mutate_steps(kSteps), m.mutate_epoch(kSteps / 15), m.mutate_epoch_step(kSteps % 15), m.mutate_schedule_steps(schedule);
    });
  }
  check("epoch", [](M& m) { m.mutate_steps_per_epoch(1), m.mutate_epoch(3), m.mutate_epoch_step(0); });
  check("loss", [](M& m) { m.mutate_held_out_loss(-HUGE_VAL); });
  check("text", [](M& m) { m.mutate_text_tokens(kMost); });
  check("warm-up", [](M& m) { m.mutate_warmup(kMost); });
  check("rates", [](M& m) { m.mutate_learning_rate(1e9), m.mutate_clip(0), m.mutate_synapse_decay(1e9); });
}

}  // namespace
}  // namespace neurogen

// Rates of a fine-tune: such that they do no harm to what a model has learned, and the same when the run is resumed.
#include <fmt/format.h>

#include "tests/tools/command_line.h"

namespace neurogen {
namespace {

struct Tuning {
  const char *name, *options;
  double rate;
  int warmup;
};
void PrintTo(const Tuning& tuning, std::ostream* out) { *out << tuning.name; }

class FineTuning : public CommandLine, public testing::WithParamInterface<Tuning> {
 protected:
  FineTuning() {
    std::vector<std::uint16_t> ids(600);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint16_t>(i * i % 31);
    bin("small.bin", ids);
  }
  void tune(const string& arguments) const {
    const ProgramResult result = run(kTune + arguments);
    EXPECT_EQ(result.status, 0) << arguments << "\n" << result.err << result.out;
  }
  std::vector<double> rates(const string& file) const {
    std::vector<double> rates;
    for (const json& event : log(file))
      if (event["event"] == "step") rates.push_back(event["lr"]);
    return rates;
  }
  string newest(const string& run) const { return read_file(directory_.path(run + "/step-000000030.ngck")); }

  const string kInit = "--init " + source_folder() + "/tests/pretrained/llama ";
  const string kTune =
      "neurogen-engine train --batch 4 --seq 16 --data small.bin --steps 30 --save-every 15 --device cpu "
      "--progress none ";
};

TEST_P(FineTuning, KeepsItsRatesWhenItIsResumed) {
  const string start = kInit + GetParam().options;
  tune(start + " --checkpoint-dir whole --log whole.jsonl");
  const std::vector<double> expected = rates("whole.jsonl");
  ASSERT_EQ(expected.size(), 30u);
  for (int step = 0; step < 30; ++step) {  // warm-up, then constant, and from half way on linear decay
    const double factor = std::min(1.0, (step + 1.0) / GetParam().warmup) * (step < 15 ? 1 : std::max(0.05, 2 - step / 15.0));
    EXPECT_NEAR(expected[static_cast<std::size_t>(step)] / GetParam().rate, factor, 1e-5) << "step " << step;
  }
  for (const string& again : {string(), kInit}) {
    std::filesystem::remove_all(directory_.path("parts"));
    std::filesystem::remove(directory_.path("parts.jsonl"));
    std::filesystem::create_directory(directory_.path("parts"));
    std::filesystem::copy(directory_.path("whole/step-000000015.ngck"), directory_.path("parts"));
    tune(again + "--checkpoint-dir parts --resume --log parts.jsonl");
    EXPECT_EQ(rates("parts.jsonl"), std::vector<double>(expected.begin() + 15, expected.end())) << again;
    EXPECT_TRUE(newest("parts") == newest("whole")) << again;
  }
  std::filesystem::remove(directory_.path("parts/step-000000030.ngck"));
  refuses(kTune + "--checkpoint-dir parts --resume --lr 0.01",
          fmt::format("was trained with --lr {}, now it is 0.01", GetParam().rate));
  refuses(kTune + "--checkpoint-dir parts --resume --warmup 7",
          fmt::format("was trained with --warmup {}, now it is 7", GetParam().warmup));
}

INSTANTIATE_TEST_SUITE_P(Kinds, FineTuning,
                         testing::Values(Tuning{"whole", "", 5e-5, 10}, Tuning{"adapters", "--lora 2", 2e-4, 10},
                                         Tuning{"lean", "--weights 16bit --moments 8bit --updates backward", 5e-5, 10},
                                         Tuning{"chosen", "--lr 0.003 --warmup 4", 0.003, 4},
                                         Tuning{"chosen_adapters", "--lora 2 --lr 0.003 --warmup 4", 0.003, 4}),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace neurogen

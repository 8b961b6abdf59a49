// Two GPUs train one model, as two ranks or as four: the same as one with the batch of all but for rounding, and equal bits on all
// and again.
#include "engine/model/initialize.h"
#include "engine/run/session.h"
#include "engine/run/training_step.h"
#include "kernels/base/step_control.h"
#include "tests/engine/small_brain.h"
#include "tests/gpu_ranks.h"

namespace neurogen {
namespace {

constexpr std::int64_t kSequences = 12, kWindow = 48, kVocabulary = 200;

struct Case {
  const char* model;
  DType compute;
  bool linked = true;  // else through NCCL
  int ranks = 2;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.model << "_" << name_of(c.compute) << (c.linked ? "" : "_by_NCCL") << "_" << c.ranks;
}

ArchitecturePtr architecture_of(const std::string& model) {
  if (model == "brain") return brain(small_brain(kVocabulary));
  return parse_architecture(
      R"({"family": "transformer", "name": "small", "vocabulary": 200, "width": 128, "layers": 3, "heads": 2, "hidden": 256,
          "context": 64, "norm": "rms", "positions": "rotary", "activation": "relu2", "qk_norm": true, "qkv_bias": false,
          "bias": false, "embedding_norm": true, "tied": )" +
          std::string(model == "tied" ? "true}" : "false}"),
      "model");
}

struct Trained {
  std::vector<double> metrics;      // losses and norms of four steps
  std::vector<std::int64_t> state;  // the persistent tensors' checksums
};

Trained train(const Case& c, std::int64_t accumulate, SharedRanks* ranks) {
  StepOptions o;
  o.ranks = ranks ? ranks->size() : 1, o.accumulate = accumulate, o.batch = kSequences / o.ranks / accumulate, o.window = kWindow;
  o.compute = o.decoder_storage = c.compute;
  o.vocabulary_tile = 24;  // more tiles than tickets (kernels/all_ranks.h)
  o.target = {true, 1, Bytes{32} << 20};
  const ArchitecturePtr architecture = architecture_of(c.model);
  o.optimizer = architecture->optimizers().front();
  Place place{.gpu = true};
  if (ranks) {
    place.rank = ranks->rank(), place.ordinal = place.rank % 2, place.linked = c.linked, place.gather = gather_of(*ranks);
    if (!c.linked) place.nccl = shared_id(*ranks);
  }
  Session session(planned(build_training(architecture, o), {Bytes{1} << 34, 0}), place);
  const Model& model = session.model;
  Program& program = session.program;
  initialize(model, program, 5);
  Trained trained;
  for (std::int64_t step = 0; step < 4; ++step) {
    *program.view(model.ports.control).as<StepControl>() = {step, 4e-3f, 3e-2f, 1e-3f, 0.01f};
    const StepResult result = run_programs(model, program, [&](std::int64_t k) {
      std::int32_t* const ids = program.view(model.ports.batch).as<std::int32_t>();
      for (std::int64_t i = 0; i < o.tokens(); ++i) {
        const std::int64_t at = o.first_sequence(place.rank, k) * kWindow + i;
        ids[i] = static_cast<std::int32_t>(at * at % kVocabulary);
        ids[o.tokens() + i] = at < kWindow / 2 ? -1 : static_cast<std::int32_t>((at + 1) * (at + 1) % kVocabulary);
      }
    });
    trained.metrics.insert(trained.metrics.end(),
                           {result.loss, static_cast<double>(program.view(model.ports.norm).as<const float>()[0])});
  }
  if (!ranks) return trained;
  program.run(model.programs.compare);
  const TensorView sums = program.view(model.ports.checksums);
  trained.state.assign(sums.as<const std::int64_t>(), sums.as<const std::int64_t>() + sums.elements());
  if (session.nccl) {
    EXPECT_LE(session.nccl->gpu_bytes(), nccl_bytes(session.gpu->multiprocessors()));
  }
  return trained;
}

class CudaTrainDeathTest : public TwoGpus, public testing::WithParamInterface<Case> {
 protected:
  // Of each rank: metrics, then checksums.
  static std::vector<std::byte> on_all(std::int64_t accumulate) {
    const auto all = on_ranks(GetParam().ranks, [&](SharedRanks& ranks) {
      const Trained trained = train(GetParam(), accumulate, &ranks);
      std::vector<std::byte> bytes = bytes_of(trained.metrics), state = bytes_of(trained.state);
      bytes.insert(bytes.end(), state.begin(), state.end());
      return bytes;
    });
    for (const std::vector<std::byte>& one : all) EXPECT_EQ(one, all[0]) << "ranks differ";
    return all.empty() ? std::vector<std::byte>{} : all[0];
  }
};

TEST_P(CudaTrainDeathTest, EqualsOneGpuWithTheBatchOfAll) {
  const auto one = in_processes(1, [](int) { return bytes_of(train(GetParam(), 1, nullptr).metrics); });
  ASSERT_EQ(one.size(), 1u);
  const std::vector<double> whole = values_of<double>(one[0]);
  EXPECT_LT(whole[6], whole[0]);
  const double tolerance = GetParam().compute == DType::f32 ? 2e-3 : 5e-2;
  for (const std::int64_t accumulate : {1, 3}) {
    const std::vector<std::byte> all = on_all(accumulate);
    ASSERT_GT(all.size(), 64u);
    const std::vector<double> metrics = values_of<double>({all.begin(), all.begin() + 64});
    for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(metrics[i] / whole[i], 1, tolerance) << accumulate << ", " << i;
    EXPECT_EQ(on_all(accumulate), all) << "another run has other bits";
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CudaTrainDeathTest,
                         testing::Values(Case{"brain", DType::f32}, Case{"brain", DType::bf16}, Case{"transformer", DType::f32},
                                         Case{"transformer", DType::bf16}, Case{"tied", DType::bf16},
                                         Case{"brain", DType::bf16, false}, Case{"transformer", DType::bf16, false},
                                         Case{"brain", DType::f32, true, 4}, Case{"transformer", DType::bf16, true, 4}),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace neurogen

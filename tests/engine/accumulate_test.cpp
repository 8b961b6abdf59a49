// Steps in micro-batches: the batch at once but for rounding, whatever the counts, cut and resumed in another split, under a loss
// scale.
#include "kernels/loss_scale.h"
#include "tests/engine/restart.h"

namespace neurogen {
namespace {

struct Split {
  std::int64_t accumulate, batch;
};
constexpr Split kSplits[] = {{6, 1}, {2, 3}, {3, 2}};
constexpr std::int64_t kSequences = 6, kWindow = 16;

class Accumulate : public testing::TestWithParam<const char*> {
 protected:
  static ArchitecturePtr model() {
    Random random(7);
    const std::string which = GetParam();
    if (which == "brain") return random_brain(random);
    for (;;) {
      const ArchitecturePtr drawn = random_transformer(random);
      if (drawn->tied() == (which == "tied transformer")) return drawn;
    }
  }
  StepOptions options(Split split, DType type = DType::f64) const {
    StepOptions o;
    o.accumulate = split.accumulate, o.batch = split.batch, o.window = kWindow;
    o.compute = o.decoder_storage = type;
    o.vocabulary_tile = 32, o.document_end = 3;
    o.logits_part = 1;  // 64 tokens, the least: the batch at once has two parts
    o.optimizer = model_->optimizers().front();
    return o;
  }
  Session session(const StepOptions& o) const { return Session(planned(build_training(model_, o), kPlenty)); }
  // Ids and targets of a whole step, [2, kSequences, kWindow].
  std::vector<std::int32_t> whole_step(std::int64_t seed) const {
    Random random(static_cast<std::uint64_t>(seed));
    StepOptions o = options({1, kSequences});
    std::vector<std::int32_t> ids = random_batch(random, *model_, o);
    std::fill_n(ids.begin() + o.tokens(), seed % 2 == 0 ? kWindow : 5, -1);  // even: the first sequence counts nothing
    return ids;
  }
  static StepResult step(Session& session, const std::vector<std::int32_t>& ids, std::int64_t number) {
    const StepOptions& o = session.model.options;
    *session.program.view(session.model.ports.control).as<StepControl>() = {number, 4e-3f, 3e-2f, 1e-3f, 0.01f};
    return run_programs(session.model, session.program, [&](std::int64_t k) {
      std::int32_t* const to = session.program.view(session.model.ports.batch).as<std::int32_t>();
      for (const std::int64_t part : {0, 1})
        std::copy_n(ids.begin() + part * kSequences * kWindow + k * o.tokens(), o.tokens(), to + part * o.tokens());
    });
  }
  // Every persistent tensor, as float64.
  static std::vector<double> state(const Session& session) {
    std::vector<double> all;
    for (const TensorId id : persistent_tensors(session.arena.plan())) {
      const TensorView view = session.program.view(id);
      if (view.dtype == DType::i32) continue;
      dispatch_real(view.dtype, [&](auto zero) {
        for (std::int64_t i = 0; i < view.elements(); ++i) all.push_back(static_cast<double>(view.as<decltype(zero)>()[i]));
      });
    }
    return all;
  }
  ArchitecturePtr model_ = model();
};

TEST_P(Accumulate, EqualsTheBatchAtOnceToRounding) {
  for (const auto& [type, tolerance] : {std::pair{DType::f64, 1e-9}, {DType::f32, 2e-3}}) {
    Session whole = session(options({1, kSequences}, type));
    initialize_everything(whole.model, whole.program, 5);
    std::vector<StepResult> results;
    for (std::int64_t i = 0; i < 4; ++i) results.push_back(step(whole, whole_step(i), i));
    const std::vector<double> expected = state(whole);
    for (const Split split : kSplits) {
      SCOPED_TRACE(testing::Message() << name_of(type) << ", " << split.accumulate << " x " << split.batch);
      Session parts = session(options(split, type));
      initialize_everything(parts.model, parts.program, 5);
      parts.program.set_poison(true);
      for (std::int64_t i = 0; i < 4; ++i) {
        const double loss = results[static_cast<std::size_t>(i)].loss;
        EXPECT_NEAR(step(parts, whole_step(i), i).loss, loss, tolerance * loss);
      }
      const std::vector<double> got = state(parts);
      ASSERT_EQ(got.size(), expected.size());
      double most = 0;
      for (std::size_t i = 0; i < got.size(); ++i)
        most = std::max(most, std::abs(got[i] - expected[i]) / (1 + std::abs(expected[i])));
      EXPECT_LT(most, tolerance);
    }
  }
}

TEST_P(Accumulate, ReadsTheTextInTheOrderOfTheWholeBatchAlsoWhenResumedInAnotherSplit) {
  const TemporaryDirectory directory;
  Random random(11);
  RestartSettings whole, parts, rest;
  whole.architecture = parts.architecture = rest.architecture = model_;
  whole.steps = parts.steps = rest.steps = 8;
  whole.options = options({1, kSequences}), parts.options = options({6, 1}), rest.options = options({2, 3});
  const Tokens text = random_text(random, directory, model_, 3 * kSequences * kWindow + 20);  // three steps an epoch
  const auto plan = [](const RestartSettings& s) { return planned(build_training(s.architecture, s.options), kPlenty); };
  RunRecord expected, got;
  run_part(whole, plan(whole), text, nullptr, 8, nullptr, 0, expected);
  const std::string path = directory.path("checkpoints");
  CheckpointDirectory saved(path, 2, false);
  run_part(parts, plan(parts), text, nullptr, 5, &saved, 5, got);
  const Checkpoint from(checkpoint_file(path));
  EXPECT_EQ(from.manifest().options.accumulate, 6);
  EXPECT_EQ(from.manifest().options.batch, 1);
  run_part(rest, plan(rest), text, &from, 8, nullptr, 0, got);
  ASSERT_EQ(got.outcome.losses.size(), 8u);
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(got.outcome.losses[i], expected.outcome.losses[i], 1e-9 * expected.outcome.losses[i]);
    EXPECT_NEAR(got.outcome.norms[i], expected.outcome.norms[i], 1e-6 * expected.outcome.norms[i]);
  }
}

TEST_P(Accumulate, AnOverflowInOneMicroBatchSkipsTheStep) {
  StepOptions o = options({3, 2}, DType::f32);
  o.loss_scaling = true;
  Session session = this->session(o);
  initialize(session.model, session.program, 5);
  const std::vector<double> before = state(session);
  std::vector<std::int32_t> ids = whole_step(1);
  // The second micro-batch has one counted token, whose gradient overflows at the first scale; the others have more.
  const auto targets = ids.begin() + kSequences * kWindow;
  std::fill(targets + 2 * kWindow, targets + 4 * kWindow, -1);
  targets[3 * kWindow] = 1;
  step(session, ids, 0);
  EXPECT_EQ(state(session), before);
  EXPECT_EQ(step_control(session.program.view(session.model.ports.outcome)).overflow, kDecoderOverflow | kTrunkOverflow);
  // At half the scale it trains; a micro-batch without counted tokens is no overflow.
  targets[3 * kWindow] = -1;
  const StepResult result = step(session, ids, 1);
  EXPECT_TRUE(std::isfinite(result.loss));
  EXPECT_EQ(step_control(session.program.view(session.model.ports.outcome)).overflow, 0);
  EXPECT_NE(state(session), before);
}

TEST_P(Accumulate, CostsTheGradientsInMemoryWhateverTheNumberOfMicroBatches) {
  const auto bytes = [&](Split split) { return planned(build_training(model_, options(split)), kPlenty).plan.device; };
  const ArenaPlan one = bytes({1, 2}), two = bytes({2, 2}), many = bytes({1000, 2});
  EXPECT_EQ(two.bytes, many.bytes);
  EXPECT_EQ(two.persistent, one.persistent);
  Bytes gradients = 0;
  for (const Parameter& p : build_training(model_, options({1, 2})).parameters) gradients += align_up(size_of(DType::f64, p.shape));
  EXPECT_EQ(two.derived - one.derived, gradients + kAlignment);  // and the count
}

std::string name_of_case(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Families, Accumulate, testing::Values("brain", "transformer", "tied transformer"), name_of_case);

}  // namespace
}  // namespace neurogen

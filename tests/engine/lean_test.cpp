// Leaner storage of what AdamW updates: weights in 16 bits, moments in 8, updates during the backward pass.
#include "kernels/loss_scale.h"
#include "tests/engine/laws.h"
#include "tests/engine/restart.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

constexpr char kTied[] = R"({"family": "transformer", "name": "tied", "vocabulary": 200, "width": 64, "layers": 3, "heads": 4,
  "key_value_heads": 2, "hidden": 128, "context": 48, "norm": "layer", "positions": "learned", "activation": "gelu_tanh",
  "qk_norm": false, "qkv_bias": true, "bias": true, "tied": true, "embedding_norm": false})";
constexpr char kUntied[] = R"({"family": "transformer", "name": "untied", "vocabulary": 200, "width": 64, "layers": 3, "heads": 2,
  "hidden": 128, "context": 256, "norm": "rms", "positions": "rotary", "activation": "silu_gated", "qk_norm": true,
  "qkv_bias": true, "bias": true, "tied": false, "embedding_norm": true})";

class Lean : public testing::TestWithParam<const char*> {
 protected:
  Lean() : model_(std::make_shared<TransformerArchitecture>(parse_transformer(GetParam(), "model"))) {
    o_.batch = 4, o_.window = 24, o_.vocabulary_tile = 64, o_.target.threads = 2, o_.optimizer = Optimizer::adamw;
  }
  Outcome train(const StepOptions& o, int count = 3) const {
    Random random(3);
    return outcome_of(planned(build_training(model_, o), kPlenty), random_batch(random, *model_, o), true, count);
  }
  const ArchitecturePtr model_;
  StepOptions o_;
};

TEST_P(Lean, EarlyUpdatesOfGradientsBelowTheLimitAreThoseAtTheEnd) {
  o_.clip = 1e9;
  for (const bool narrow : {false, true}) {
    o_.narrow_weights = o_.narrow_moments = narrow, o_.early_updates = false;
    const Outcome late = train(o_);
    o_.early_updates = true;
    for (const Schedule& schedule : schedules(*model_, o_)) {
      o_.schedule = schedule;
      EXPECT_TRUE(train(o_) == late) << describe(*model_, o_);
    }
  }
}

// After one step m is a tenth of the clipped gradient.
TEST_P(Lean, EarlyUpdatesHoldEachBlockToItsShareOfTheLimit) {
  o_.early_updates = true;
  const auto moments = [&](double clip, double& norm) {
    o_.clip = clip;
    Session session(planned(build_training(model_, o_), kPlenty));
    initialize(session.model, session.program, 5);
    Random random(3);
    Outcome outcome;
    steps(session, random_batch(random, *model_, o_), 1, outcome);
    norm = outcome.norms[0];
    std::vector<std::vector<double>> all;
    for (const Parameter& p : session.model.parameters) {
      const TensorView m = session.program.view(p.m);
      all.emplace_back(m.as<float>(), m.as<float>() + m.elements());
    }
    return all;
  };
  double norm = 0, same_norm = 0;
  const auto whole = moments(1e9, norm), clipped = moments(0.01, same_norm);
  EXPECT_EQ(norm, same_norm);
  EXPECT_GT(norm, 0.5);
  double squares = 0;
  std::set<double> factors;
  for (std::size_t p = 0; p < whole.size(); ++p) {
    double own = 0, of = 0;
    for (std::size_t i = 0; i < whole[p].size(); ++i) own += clipped[p][i] * clipped[p][i], of += whole[p][i] * whole[p][i];
    squares += 100 * own;
    if (of > 1e-20) factors.insert(std::round(1e4 * std::sqrt(own / of)));
  }
  EXPECT_NEAR(std::sqrt(squares), 0.01, 1e-4) << "every block is clipped to its share";
  EXPECT_EQ(factors.size(), model_->tied() ? 4u : 5u) << "three blocks, the tables, the head if it is not one of them";
}

TEST_P(Lean, EarlyUpdatesKeepFewGradients) {
  o_.narrow_weights = o_.narrow_moments = true;
  const auto gradients = [&] {
    const Plan plan = planned(build_training(model_, o_), kPlenty).plan;
    Bytes most = 0;
    for (std::int64_t op = 0; op < static_cast<std::int64_t>(plan.operations.size()); ++op) {
      Bytes alive = 0;
      for (const Buffer& b : plan.buffers)
        if (b.name.starts_with("d_layers.") && b.first_op <= op && op <= b.last_op) alive += b.bytes;
      most = std::max(most, alive);
    }
    return most;
  };
  const Bytes late = gradients();
  o_.early_updates = true;
  EXPECT_LE(gradients(), late / 3 + 1024);  // a block's, and a bias of the block before
}

TEST_P(Lean, LearnsNearlyAsMuch) {
  const auto loss = [&] { return train(o_, 40).losses.back(); };
  const double full = loss();
  o_.narrow_weights = true;
  EXPECT_NEAR(loss() / full, 1, 0.05);
  o_.narrow_moments = true;
  EXPECT_NEAR(loss() / full, 1, 0.1);
}

TEST_P(Lean, StoresWhatItSays) {
  o_.narrow_weights = o_.narrow_moments = true;
  const Fit fit = planned(build_training(model_, o_), kPlenty);
  for (const Parameter& p : fit.model.parameters) {
    const auto type = [&](TensorId id) { return fit.plan.buffers[id.index].dtype; };
    const bool matrix = p.shape.size() == 2;
    EXPECT_EQ(type(p.value), matrix ? DType::bf16 : DType::f32) << p.name;
    EXPECT_EQ(type(p.m), matrix ? DType::u8 : DType::f32) << p.name;
    EXPECT_EQ(type(p.v), matrix ? DType::u8 : DType::f32) << p.name;
    EXPECT_FALSE(p.low);
  }
  o_.compute = DType::bf16, o_.target.gpu = true;
  for (const Parameter& p : build_training(model_, o_).parameters) EXPECT_FALSE(p.low) << "no second copy of " << p.name;
}

// Under a loss scale, a block whose gradient overflows and those after it in the backward pass stay as they are.
TEST_P(Lean, AnOverflowSkipsWhatIsNotUpdatedYet) {
  o_.early_updates = o_.loss_scaling = true;
  Session session(planned(build_training(model_, o_), kPlenty));
  const Model& model = session.model;
  initialize(model, session.program, 5);
  Random random(3);
  const auto batch = random_batch(random, *model_, o_);
  std::copy(batch.begin(), batch.end(), session.program.view(model.ports.batch).as<std::int32_t>());
  *session.program.view(model.ports.control).as<StepControl>() = {0, 4e-3f, 3e-2f, 1e-3f, 0.01f};
  const TensorId gradient = model.parameter("layers.1.query.weight").gradient;
  const auto& operations = model.graph.operations();
  const auto norm = std::find_if(operations.begin(), operations.end(), [&](const Operation& operation) {
    const auto reads = [&](TensorId id) { return id.index == gradient.index; };
    return operation.name.starts_with("norm.") && std::any_of(operation.reads.begin(), operation.reads.end(), reads);
  });
  ASSERT_NE(norm, operations.end());
  const auto at = static_cast<std::size_t>(norm - operations.begin());
  const auto before = persistent_bytes(session);
  session.program.run({model.programs.train.begin, at});
  session.program.view(gradient).as<float>()[3] = INFINITY;
  session.program.run({at, model.programs.train.end});
  EXPECT_EQ(step_control(session.program.view(model.ports.outcome)).overflow, kTrunkOverflow);
  const auto after = persistent_bytes(session);
  for (const Parameter& p : model.parameters) {
    const Buffer& b = session.arena.plan().buffers[p.value.index];
    const auto begin = before.begin() + static_cast<std::ptrdiff_t>(b.offset);
    const bool same = std::equal(begin, begin + static_cast<std::ptrdiff_t>(b.bytes), after.begin() + (begin - before.begin()));
    const bool updated = p.name.starts_with("layers.2") || p.name.starts_with("final") || p.name == "decoder.weight";
    if (p.name.ends_with(".weight")) EXPECT_EQ(same, !updated) << p.name;
  }
}

TEST_P(Lean, ResumesOnlyWithTheSameMoments) {
  const TemporaryDirectory directory;
  Random random(7);
  RestartSettings settings;
  settings.architecture = model_;
  settings.options = o_;
  const Tokens text = random_text(random, directory, model_, 2000);
  const auto session = [&](bool narrow) {
    settings.options.narrow_moments = narrow;
    return Session(planned(build_training(model_, settings.options), kPlenty));
  };
  Session first = session(true);
  initialize(first.model, first.program, 5);
  CheckpointDirectory saved(directory.path("saved"), 1, false);
  ASSERT_EQ(Saver(first, manifest_of(settings, text), saved).save({3, 9}), Saved::yes);
  const Checkpoint from(checkpoint_file(saved.path()));
  Session again = session(true), other = session(false);
  go_on(again, from, true, false);
  EXPECT_TRUE(persistent_bytes(again) == persistent_bytes(first));
  EXPECT_ERROR(go_on(other, from, true, false), "stores moments in 8 bits, this run in fp32: choose the same moments");
}

INSTANTIATE_TEST_SUITE_P(Kinds, Lean, testing::Values(kTied, kUntied),
                         [](const auto& it) { return std::string(it.param == std::string(kTied) ? "tied" : "untied"); });

}  // namespace
}  // namespace neurogen

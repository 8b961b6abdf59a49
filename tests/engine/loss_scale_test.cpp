// A whole brain under a loss scale: the same bits as without, the effect of an overflow, and the state in a checkpoint.
#include "kernels/loss_scale.h"

#include "tests/engine/restart.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

using State = std::vector<std::int32_t>;

struct Scaled {
  BrainShape architecture;
  StepOptions options;
  std::vector<std::int32_t> batch;

  explicit Scaled(std::uint64_t seed) {
    Random random(seed);
    architecture = random_architecture(random);
    options = random_options(random, architecture);
    options.window = 16;
    options.batch = 3;
    options.loss_scaling = true;
    batch = random_batch(random, architecture, options);
  }
  Session session() const { return Session(planned(build_training(architecture, options), kApart)); }
};

State state_of(const Session& s) {
  State state(4);
  s.program.read(s.model.loss_scale, state.data(), sizeof(LossScaleState));
  return state;
}

TEST(LossScaling, ChangesNoBitWhereNothingOverflows) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    Scaled s(seed);
    s.options.schedule.keep_logits = seed % 2 == 0;
    Session with = s.session();
    s.options.loss_scaling = false;
    Session without = s.session();
    Outcome scaled, plain;
    for (const auto& [session, outcome] : {std::pair{&with, &scaled}, {&without, &plain}}) {
      initialize(session->model, session->program, 5);
      steps(*session, s.batch, 3, *outcome);
      outcome->persistent = persistent_bytes(*session);
    }
    EXPECT_EQ(state_of(with), (State{0, 3, 0, 0}));
    scaled.persistent.resize(plain.persistent.size());  // the state follows all other tensors
    EXPECT_TRUE(scaled == plain);
  }
}

TEST(LossScaling, AnOverflowBeforeTheDecoderSkipsTheStep) {
  const Scaled s(3);
  Session overflows = s.session(), fresh = s.session();
  Outcome ignored;
  for (Session* session : {&overflows, &fresh}) initialize(session->model, session->program, 5);
  const State largest = {kMostLossScale - kFirstLossScale, 0, 0, 0};  // too large for the gradient of so few tokens
  overflows.program.write(overflows.model.loss_scale, largest.data(), sizeof(LossScaleState));
  const auto before = persistent_bytes(fresh);
  const Bytes state = overflows.arena.plan().buffers[overflows.model.loss_scale.index].offset;
  int skipped = 0;
  while (skipped < 8 && state_of(overflows)[3] == skipped) {
    auto now = persistent_bytes(overflows);
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(state), now.begin()));
    const TensorView batch = overflows.program.view(overflows.model.ports.batch);
    std::copy(s.batch.begin(), s.batch.end(), batch.as<std::int32_t>());
    *overflows.program.view(overflows.model.ports.control).as<StepControl>() = {skipped, 4e-3f, 3e-2f, 1e-3f, 0.01f};
    overflows.program.run(overflows.model.programs.train);
    ++skipped;
  }
  --skipped;
  EXPECT_GT(skipped, 1);
  EXPECT_EQ(state_of(overflows), (State{kMostLossScale - kFirstLossScale - skipped, 1, skipped, skipped}));
  // The next step counts as the first.
  steps(fresh, s.batch, 1, ignored);
  const auto late = persistent_bytes(overflows), first = persistent_bytes(fresh);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(state), late.begin()));
}

TEST(LossScaling, ALaterOverflowSkipsTheBrainAlone) {
  const Scaled s(4);
  Session session = s.session();
  const Model& model = session.model;
  Program& program = session.program;
  initialize(model, program, 5);
  std::vector<std::vector<float>> before;
  const auto value = [&](TensorId id) {
    std::vector<float> values(static_cast<std::size_t>(program.view(id).elements()));
    program.read(id, values.data(), values.size() * sizeof(float));
    return values;
  };
  for (const Parameter& p : model.parameters) before.push_back(value(p.value));
  std::copy(s.batch.begin(), s.batch.end(), program.view(model.ports.batch).as<std::int32_t>());
  *program.view(model.ports.control).as<StepControl>() = {0, 4e-3f, 3e-2f, 1e-3f, 0.01f};
  const Graph::Range train = model.programs.train;
  std::size_t norm = train.begin;
  while (model.graph.operations()[norm].name != "norm") ++norm;
  program.run({train.begin, norm});
  const float infinity = INFINITY;
  program.write(model.parameters[3].gradient, &infinity, sizeof infinity, 8);
  program.run({norm, train.end});
  EXPECT_EQ(state_of(session), (State{-1, 0, 0, 1}));
  EXPECT_EQ(step_control(program.view(model.ports.outcome)).overflow, kTrunkOverflow);
  EXPECT_EQ(step_control(program.view(model.ports.outcome)).loss_scale, 65536);
  for (std::size_t i = 0; i < model.parameters.size(); ++i) {
    const Parameter& p = model.parameters[i];
    EXPECT_EQ(value(p.value) != before[i], p.rule == UpdateRule::adafactor) << p.name;
    if (p.m) {
      EXPECT_EQ(value(p.m), std::vector<float>(before[i].size())) << p.name;
    }
  }
}

// A CPU does not compute in f16, but saves and loads f16 checkpoints like a GPU.
class SavedScale : public testing::Test {
 protected:
  SavedScale() {
    settings_.architecture = random_brain(random_);
    settings_.options.batch = 2;
    settings_.options.window = 16;
    settings_.options.compute = settings_.options.decoder_storage = DType::f16;
  }
  Session session(DType compute, const Checkpoint* from = nullptr) const {
    StepOptions o = settings_.options;
    o.compute = compute;
    return Session(planned(build_training(settings_.architecture, o), kPlenty), {}, from);
  }
  // The file of a run in the session's type, with the scale or without.
  std::string save(const Session& from) {
    const Tokens text = random_text(random_, directory_, settings_.architecture, 200);
    RestartSettings of_session = settings_;
    of_session.options.compute = from.model.options.compute;
    const Manifest m = manifest_of(of_session, text);
    CheckpointDirectory saved(directory_.path("saved"), 1, false);
    EXPECT_EQ(Saver(from, m, saved).save({40, 100}), Saved::yes);
    return checkpoint_file(saved.path());
  }

  Random random_{9};
  TemporaryDirectory directory_;
  RestartSettings settings_;
};

TEST_F(SavedScale, ComesBackAsItWas) {
  Session first = session(DType::f16);
  initialize(first.model, first.program, 3);
  const State state = {-5, 1234, 7, 11};
  first.program.write(first.model.loss_scale, state.data(), sizeof(LossScaleState));
  const Checkpoint from(save(first));
  Session again = session(DType::f16, &from);
  restore(again, from);
  EXPECT_EQ(state_of(again), state);
  EXPECT_TRUE(persistent_bytes(again) == persistent_bytes(first));
  Session other = session(DType::bf16, &from);  // has no scale
  restore(other, from);
}

TEST_F(SavedScale, BeginsAfreshWhereAFileHasNone) {
  Session first = session(DType::bf16);
  initialize(first.model, first.program, 3);
  const Checkpoint from(save(first));
  from.verify();
  Session again = session(DType::f16, &from);
  restore(again, from);
  EXPECT_EQ(state_of(again), State(4, 0));
  auto all = persistent_bytes(again);
  all.resize(persistent_bytes(first).size());
  EXPECT_TRUE(all == persistent_bytes(first));
}

TEST_F(SavedScale, IsRefusedWhereNoStepsLeadToIt) {
  for (const State& state :
       {State{9, 0, 0, 0}, State{-17, 0, 0, 0}, State{0, 2000, 0, 0}, State{0, -1, 0, 0}, State{0, 0, 41, 0}, State{0, 0, 0, -1}}) {
    Session first = session(DType::f16);
    initialize(first.model, first.program, 3);
    first.program.write(first.model.loss_scale, state.data(), sizeof(LossScaleState));
    const Checkpoint from(save(first));
    Session again = session(DType::f16, &from);
    EXPECT_ERROR(restore(again, from), "loss scale");
  }
}

}  // namespace
}  // namespace neurogen

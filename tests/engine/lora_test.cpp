// Adapters beside frozen weights: gradients by differences, the same as merged weights, and what is planned, saved and exported.
#include "engine/run/base.h"
#include "tests/engine/laws.h"
#include "tests/engine/restart.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

// With every kind of matrix and bias; tied, and with its own decoder.
std::string model(bool tied) {
  return std::string(R"({"family": "transformer", "name": "small", "vocabulary": 90, "width": 48, "layers": 2, "heads": 3,
    "key_value_heads": 1, "hidden": 40, "context": 48, "norm": "layer", "positions": "learned", "activation": "silu_gated",
    "qk_norm": true, "qkv_bias": true, "bias": true, "embedding_norm": false, "tied": )") +
         (tied ? "true}" : "false}");
}

class Adapters : public testing::TestWithParam<bool> {
 protected:
  Adapters() : model_(std::make_shared<TransformerArchitecture>(parse_transformer(model(GetParam()), "model"))) {
    o_.batch = 3, o_.window = 17, o_.vocabulary_tile = 32, o_.target.threads = 2, o_.optimizer = Optimizer::adamw;
    o_.lora = {3, 7.5, model_->adaptable()};
  }
  // Adapters whose second matrix is not 0.
  static void begin(Session& session) {
    initialize_everything(session.model, session.program, 5);
    for (const Parameter& p : session.model.parameters) {
      if (!p.name.ends_with(".lora_b")) continue;
      const TensorView b = session.program.view(p.value);
      dispatch_real(b.dtype, [&](auto zero) {
        for (std::int64_t i = 0; i < b.elements(); ++i)
          b.as<decltype(zero)>()[i] = static_cast<decltype(zero)>(0.1 * normal(9, p.draws, static_cast<std::uint64_t>(i)));
      });
    }
  }
  std::vector<std::int32_t> batch() const {
    Random random(3);
    return random_batch(random, *model_, o_);
  }
  static double loss(Session& session) {
    session.program.run(session.model.programs.evaluate);
    const double* loss = session.program.view(session.model.ports.loss).as<const double>();
    return loss[0] / loss[1];
  }
  static void put(Session& session, const std::vector<std::int32_t>& ids) {
    std::copy(ids.begin(), ids.end(), session.program.view(session.model.ports.batch).as<std::int32_t>());
  }
  const ArchitecturePtr model_;
  StepOptions o_;
};

TEST_P(Adapters, HaveTheGradientsOfDifferences) {
  o_.compute = o_.decoder_storage = DType::f64;
  o_.clip = 1e9;
  Session session(planned(build_training(model_, o_), kApart));
  begin(session);
  put(session, batch());
  *session.program.view(session.model.ports.control).as<StepControl>() = {};  // rates of 0
  session.program.run(session.model.programs.train);
  int adapters = 0;
  for (const Parameter& p : session.model.parameters) {
    if (p.rule == UpdateRule::none) {
      EXPECT_FALSE(p.gradient || p.m || p.v) << p.name;
      continue;
    }
    ++adapters;
    const TensorView x = session.program.view(p.value), gradient = session.program.view(p.gradient);
    for (std::int64_t i = 0; i < x.elements(); i += x.elements() / 5 + 1) {
      double& value = x.as<double>()[i];
      const double at = value, step = 1e-5;
      const auto loss_at = [&](double moved) {
        value = moved;
        const double result = loss(session);
        value = at;
        return result;
      };
      const double difference = (loss_at(at + step) - loss_at(at - step)) / (2 * step);
      EXPECT_NEAR(gradient.as<double>()[i], difference, 1e-7 + 1e-5 * std::abs(difference)) << p.name << " " << i;
    }
  }
  EXPECT_EQ(adapters, 2 * 2 * 7);
}

TEST_P(Adapters, AreTheSumThatTheyAreMergedInto) {
  o_.compute = o_.decoder_storage = DType::f64;
  Session beside(planned(build_training(model_, o_), kPlenty));
  begin(beside);
  StepOptions without = o_;
  without.lora = {};
  Session merged(planned(build_training(model_, without), kPlenty));
  for (const Parameter& p : merged.model.parameters) {
    const Parameter& base = beside.model.parameter(p.name);
    const TensorView to = merged.program.view(p.value), from = beside.program.view(base.value);
    std::copy_n(from.as<double>(), from.elements(), to.as<double>());
    if (base.adapter.a == 0) continue;
    const TensorView a = beside.program.view(beside.model.parameters[base.adapter.a].value),
                     b = beside.program.view(beside.model.parameters[base.adapter.b].value);
    for (std::int64_t i = 0; i < to.elements(); ++i)
      for (std::int64_t r = 0; r < 3; ++r)
        to.as<double>()[i] += 2.5 * b.as<double>()[i / to[1] * 3 + r] * a.as<double>()[r * to[1] + i % to[1]];
  }
  put(beside, batch()), put(merged, batch());
  EXPECT_NEAR(loss(beside), loss(merged), 1e-12);
}

TEST_P(Adapters, LearnWhileTheBaseStaysAsItIs) {
  Session session(planned(build_training(model_, o_), kPlenty));
  initialize_everything(session.model, session.program, 5);
  const auto frozen = [&] {
    std::vector<float> all;
    for (const Parameter& p : session.model.parameters) {
      const TensorView x = session.program.view(p.value);
      if (p.rule == UpdateRule::none) all.insert(all.end(), x.as<float>(), x.as<float>() + x.elements());
    }
    return all;
  };
  const auto before = frozen();
  Outcome outcome;
  steps(session, batch(), 30, outcome);
  EXPECT_LT(outcome.losses[29], outcome.losses[0] - 0.5);
  EXPECT_TRUE(frozen() == before);
}

TEST_P(Adapters, AloneAreSavedAndUpdated) {
  const Fit fit = planned(build_training(model_, o_), kPlenty);
  Bytes frozen = 0;
  for (const Buffer& b : fit.plan.buffers) {
    EXPECT_EQ(b.kind == BufferKind::persistent,
              b.name.find(".lora_") != std::string::npos && !b.name.starts_with("d_") && b.kind != BufferKind::transient)
        << b.name;
    if (b.kind == BufferKind::loaded) frozen += align_up(b.bytes);
  }
  EXPECT_EQ(fit.plan.device.loaded, frozen);
  EXPECT_EQ(persistent_buffers(fit.plan).size(), 3u * 28) << "values and two moments";
  o_.compute = DType::bf16, o_.target.gpu = true;
  for (const Parameter& p : build_training(model_, o_).parameters)
    EXPECT_EQ(static_cast<bool>(p.low), p.rule != UpdateRule::none) << p.name;
}

TEST_P(Adapters, GiveTheSameBitsInEverySchedule) {
  const Outcome expected = outcome_of(planned(build_training(model_, o_), kApart), batch(), true);
  for (const Schedule& schedule : schedules(*model_, o_)) {
    o_.schedule = schedule, o_.target.threads = o_.target.threads % 3 + 1;
    EXPECT_TRUE(outcome_of(planned(build_training(model_, o_), kPlenty), batch(), true) == expected) << describe(*model_, o_);
  }
}

TEST_P(Adapters, AreExportedMerged) {
  const TemporaryDirectory directory;
  Session session(planned(build_training(model_, o_), kPlenty));
  begin(session);
  export_parameters(session.model, session.program, directory.path("merged.safetensors"), nullptr);
  StepOptions without = o_;
  without.lora = {};
  Session merged(planned(build_training(model_, without), kPlenty));
  initialize_from(merged.model, merged.program, directory.path("merged.safetensors"));
  put(session, batch()), put(merged, batch());
  EXPECT_NEAR(loss(session), loss(merged), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Adapters, testing::Bool(), [](const auto& it) { return it.param ? "tied" : "untied"; });

}  // namespace
}  // namespace neurogen

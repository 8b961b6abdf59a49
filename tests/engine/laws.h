// The laws of the plan, each checked on one random model: on a few in the unit tests, on many in the exhaustive ones.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "arena/error.h"
#include "engine/model/initialize.h"
#include "engine/run/training_step.h"
#include "kernels/base/dispatch.h"
#include "kernels/base/random.h"
#include "kernels/base/step_control.h"
#include "tests/engine/random_architecture.h"

namespace neurogen {

constexpr Bytes kOverhead = 1'000'000;
constexpr Budget kPlenty{Bytes{1} << 40, kOverhead};
constexpr Budget kApart{Bytes{1} << 40, kOverhead, Snapshot::none, false};  // without overlay

// The results of a model: the bits of losses, norms and, last, of every persistent tensor.
struct Outcome {
  std::vector<double> losses;  // of each training step and of the evaluation after it
  std::vector<double> norms;
  std::vector<std::byte> persistent;
  bool operator==(const Outcome& other) const {
    const auto same = [](const auto& a, const auto& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
    };
    return same(losses, other.losses) && same(norms, other.norms) && same(persistent, other.persistent);
  }
};

// A model that has trained a little: a brain's every tap hears something, its pairs tell, and no bias of a transformer is 0.
inline void initialize_everything(const Model& model, Program& program, std::uint64_t seed) {
  initialize(model, program, seed);
  for (const Parameter& p : model.parameters) {
    if (!p.name.ends_with(".taps") && !p.name.ends_with(".pairs") && !(p.name.ends_with(".bias") && p.shape.size() == 1)) continue;
    const TensorView values = program.view(p.value);
    dispatch_real(values.dtype, [&](auto zero) {
      for (std::int64_t i = 0; i < values.elements(); ++i)
        values.as<decltype(zero)>()[i] += static_cast<decltype(zero)>(0.3 * normal(seed, 7, static_cast<std::uint64_t>(i)));
    });
  }
}

inline void steps(Session& session, const std::vector<std::int32_t>& batch, int count, Outcome& outcome) {
  const Model& model = session.model;
  Program& program = session.program;
  for (int step = 0; step < count; ++step) {
    *program.view(model.ports.control).as<StepControl>() = {step, 4e-3f, 3e-2f, 1e-3f, 0.01f};
    const StepResult result = run_programs(model, program, [&](std::int64_t k) {
      std::int32_t* const to = program.view(model.ports.batch).as<std::int32_t>();
      std::copy(batch.begin(), batch.end(), to);
      std::fill_n(to + model.options.tokens(), k, -1);  // so that counts differ
    });
    outcome.losses.push_back(result.loss);
    const TensorView norm = program.view(model.ports.norm);
    dispatch_real(norm.dtype, [&](auto zero) { outcome.norms.push_back(norm.as<decltype(zero)>()[0]); });
  }
  program.run(model.programs.evaluate);
  outcome.losses.push_back(program.view(model.ports.loss).as<double>()[0]);
}

inline Outcome outcome_of(Fit fit, const std::vector<std::int32_t>& batch, bool poison = false, int count = 2) {
  Session session(std::move(fit));
  initialize_everything(session.model, session.program, 5);
  session.program.set_poison(poison);
  Outcome outcome;
  steps(session, batch, count, outcome);
  const std::byte* image = session.arena.data(ArenaKind::device);
  outcome.persistent.assign(image, image + session.arena.plan().device.persistent);
  return outcome;
}

// A single token may be learned by heart, to a loss of 0.
inline void expect_losses(const Outcome& outcome) {
  EXPECT_GT(outcome.losses.front(), 0);
  for (double loss : outcome.losses) EXPECT_TRUE(std::isfinite(loss) && loss >= 0) << loss;
}

// The printed minimum runs as the budget; one byte less is refused. Every budget gives the same bits.
inline void check_smallest_budget(std::uint64_t seed, Draw draw = random_brain) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random random(seed);
  const ArchitecturePtr a = draw(random);
  const StepOptions o = random_step(random, *a);
  const Fit nothing = fit_training(a, o, {0, kOverhead});
  EXPECT_FALSE(nothing.fits());
  EXPECT_EQ(nothing.plan.total(), nothing.minimum);
  const Fit less = fit_training(a, o, {nothing.minimum - 1, kOverhead});
  EXPECT_FALSE(less.fits());
  EXPECT_EQ(less.minimum, nothing.minimum);
  EXPECT_THROW(Arena{less.plan}, Error);
  const Fit smallest = fit_training(a, o, {nothing.minimum, kOverhead}), plenty = fit_training(a, o, kPlenty);
  ASSERT_TRUE(smallest.fits() && plenty.fits());
  EXPECT_EQ(smallest.plan.total(), nothing.minimum);
  EXPECT_EQ(plenty.minimum, nothing.minimum);
  const auto batch = random_batch(random, *a, o);
  const Outcome tight = outcome_of(smallest, batch);
  expect_losses(tight);
  EXPECT_TRUE(tight == outcome_of(plenty, batch));
}

// The same bits with and without overlay, in every schedule, on 1 to 3 threads, with and without poison.
inline void check_equal_bits(std::uint64_t seed, Draw draw = random_brain) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random random(seed);
  const ArchitecturePtr a = draw(random);
  StepOptions o = random_step(random, *a);
  const auto batch = random_batch(random, *a, o);
  o.target.threads = 1;
  const Outcome expected = outcome_of(planned(build_training(a, o), kApart), batch);
  for (const Schedule& schedule : schedules(*a, o)) {
    o.schedule = schedule;
    for (std::int64_t threads : {1, 2, 3}) {
      o.target.threads = threads;
      for (bool overlay : {true, false}) {
        for (bool poison : {true, false}) {
          if (!overlay && !poison && threads != 2) continue;
          EXPECT_TRUE(outcome_of(planned(build_training(a, o), overlay ? kPlenty : kApart), batch, poison) == expected)
              << describe(*a, o) << ", tile " << schedule.tile_bytes << ", " << threads << " threads, overlay " << overlay
              << ", poison " << poison;
        }
      }
    }
  }
}

// Tells which bytes of an arena, and of the rest of its last page, belong to a buffer.
inline std::vector<bool> owned_bytes(const Plan& plan, ArenaKind kind) {
  const Bytes bytes = kind == ArenaKind::device ? plan.device.bytes : plan.host.bytes;
  std::vector<bool> owned((bytes + 4095) / 4096 * 4096, false);
  for (const Buffer& b : plan.buffers) {
    if (b.arena == kind) std::fill_n(owned.begin() + static_cast<std::ptrdiff_t>(b.offset), b.bytes, true);
  }
  return owned;
}

// Predicted bytes are used bytes, by the traces of the steps in memory: nothing outside the buffers is written, and with one thread
// the very top of every arena is. Of several threads, the last may come too late to use its scratch.
inline void check_canary(std::uint64_t seed, bool overlay, Draw draw = random_brain) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << ", overlay " << overlay);
  Random random(seed);
  const ArchitecturePtr a = draw(random);
  StepOptions o = random_step(random, *a);
  if (seed % 2 == 0) o.target.threads = 1;
  const auto batch = random_batch(random, *a, o);
  Session session(planned(build_training(a, o), overlay ? kPlenty : kApart));
  const Plan& plan = session.arena.plan();
  initialize(session.model, session.program, 5);
  // Runs twice with opposite patterns: a byte that a step writes differs from one of them.
  Bytes highest[2] = {0, 0};
  for (const auto pattern : {std::byte{0x5A}, std::byte{0xA5}}) {
    for (const ArenaKind kind : {ArenaKind::device, ArenaKind::host}) {
      const ArenaPlan& part = kind == ArenaKind::device ? plan.device : plan.host;
      const std::vector<bool> owned = owned_bytes(plan, kind);
      for (Bytes i = 0; i < owned.size(); ++i) {
        if (!owned[i] || i >= part.persistent + part.derived) session.arena.data(kind)[i] = pattern;
      }
    }
    Outcome ignored;
    steps(session, batch, 1, ignored);
    for (const ArenaKind kind : {ArenaKind::device, ArenaKind::host}) {
      const std::vector<bool> owned = owned_bytes(plan, kind);
      Bytes wrong = 0, &high = highest[static_cast<std::size_t>(kind)];
      for (Bytes i = 0; i < owned.size(); ++i) {
        if (session.arena.data(kind)[i] == pattern) continue;
        high = std::max(high, i + 1);
        wrong += !owned[i];
      }
      EXPECT_EQ(wrong, 0u) << name_of(kind);
    }
  }
  EXPECT_LE(highest[0], plan.device.bytes);
  if (o.target.threads > 1) return;
  std::string top;  // the buffer there
  for (const Buffer& b : plan.buffers) {
    if (b.arena == ArenaKind::device && b.offset + align_up(b.bytes) == plan.device.bytes)
      top += " " + b.name + " " + to_string(b.shape);
  }
  EXPECT_GT(highest[0] + kAlignment, plan.device.bytes) << "the device arena's top is never used:" << top;
  EXPECT_GT(highest[1] + kAlignment, plan.host.bytes) << "the host arena's top is never used";
}

// Every line of the refusal page names settings that fit, among them the largest batch and the minimum budget. Returns the number
// of settings besides that budget.
inline int check_page(const ArchitecturePtr& asked, const StepOptions& o, const Fit& refused, Budget budget) {
  std::istringstream page(refusal(refused, budget, plain));
  int suggestions = 0;
  Bytes minimum = 0;
  bool advice = false;
  for (std::string line; std::getline(page, line);) {
    ArchitecturePtr a = asked;
    StepOptions with = o;
    if (std::sscanf(line.c_str(), "  budget %lu  (the minimum", &minimum) == 1) continue;
    advice = advice || line.starts_with("settings that would fit");
    if (!advice || line.find(" batch ") == std::string::npos) continue;
    std::istringstream words(line);
    for (std::string field, value; words >> field >> value;) {
      if (field == "architecture") a = read_architecture(value);
      else if (field == "window") with.window = std::stol(value);
      else if (field == "batch") with.batch = std::stol(value);
      else if (field == "moments") with.narrow_moments = value == "8bit";
      else if (field == "weights") with.narrow_weights = value == "16bit";
      else if (field == "updates") with.early_updates = value == "backward";
      else ADD_FAILURE() << line;
    }
    ++suggestions;
    const Fit fit = fit_training(a, with, budget);
    EXPECT_TRUE(fit.fits()) << line;
    ++with.batch;
    EXPECT_FALSE(fit_training(a, with, budget).fits()) << line;
  }
  EXPECT_EQ(minimum, refused.minimum);
  return suggestions;
}

inline void check_refusal(std::uint64_t seed, Draw draw = random_brain) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random random(seed);
  const ArchitecturePtr a = draw(random);
  StepOptions o = random_step(random, *a);
  o.window = random.one_of({32, 64, 100, 256}), o.batch = 40;
  const Bytes most = fit_training(a, o, {0, kOverhead}).minimum;
  const std::int64_t window = random.one_of({32, 64, 100, 256});
  o.window = window == 100 ? 50 : 32, o.batch = 1;  // the shortest that the page tries
  const Bytes least = fit_training(a, o, {0, kOverhead}).minimum;
  o.window = window, o.batch = 40;
  const Budget budget{least + (most - least) * static_cast<Bytes>(random.between(0, 90)) / 100, kOverhead};
  const Fit refused = fit_training(a, o, budget);
  if (refused.fits()) return;
  EXPECT_GE(check_page(a, o, refused, budget), 1);
}

enum class Whole { trained, refused };

// All together: any settings are either planned and train to the same bits as without overlay, or refused, and the refusal's
// suggestions fit. 16-bit types, which need a GPU to train, are only planned.
inline Whole check_whole(std::uint64_t seed, Draw draw = random_brain) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random random(seed);
  const ArchitecturePtr a = draw(random);
  StepOptions o = random_step(random, *a);
  o.compute = random.one_of({DType::f32, DType::f32, DType::f64, DType::bf16, DType::f16});
  const bool wide = o.compute == DType::f32 || o.compute == DType::f64;
  o.decoder_storage = wide || random.one_of({true, false}) ? o.compute : DType::f32;
  const Bytes needed = fit_training(a, o, {0, kOverhead}).minimum - kOverhead;
  const Budget budget{kOverhead + needed * static_cast<Bytes>(random.between(40, 200)) / 100, kOverhead};
  const Fit fit = fit_training(a, o, budget);
  EXPECT_EQ(fit.fits(), budget.bytes >= fit.minimum);
  if (!fit.fits()) {
    StepOptions single = o;
    single.batch = 1;
    const int least = fit_training(a, single, budget).fits() ? 1 : 0;
    EXPECT_GE(check_page(a, o, fit, budget), least) << describe(*a, o);
    return Whole::refused;
  }
  if (!wide) return Whole::trained;
  const auto batch = random_batch(random, *a, o);
  const Outcome outcome = outcome_of(fit, batch, false, 3);
  expect_losses(outcome);
  EXPECT_TRUE(outcome == outcome_of(planned(build_training(a, fit.model.options), kApart), batch, false, 3))
      << describe(*a, fit.model.options);
  return Whole::trained;
}

inline void check_wholes(std::uint64_t begin, std::uint64_t end, Draw draw = random_brain) {
  int refused = 0;
  for (std::uint64_t seed = begin; seed < end; ++seed) refused += check_whole(seed, draw) == Whole::refused;
  std::printf("seeds %lu to %lu: %d of %lu refused\n", begin, end - 1, refused, end - begin);
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, static_cast<int>(end - begin));
}

}  // namespace neurogen

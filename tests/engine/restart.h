// The law of restarts, checked on one random model: a run that was cut anywhere and resumed equals one that was never cut.
#pragma once
#include "engine/model/initialize.h"
#include "engine/run/restore.h"
#include "engine/run/saver.h"
#include "engine/run/trainer.h"
#include "tests/engine/laws.h"
#include "tests/temporary_directory.h"

namespace neurogen {

// The results of a run, and the order in which it reads its text.
struct RunRecord {
  Outcome outcome;
  std::vector<std::int32_t> batches;
  bool operator==(const RunRecord&) const = default;
};

struct RestartSettings {
  ArchitecturePtr architecture;
  StepOptions options;
  Rates rates{4e-3, 0.01, 0.25, 1e-3, 5};
  std::uint64_t seed = 0;
  std::int64_t steps = 20;
  Place place{};
};

inline Manifest manifest_of(const RestartSettings& s, const Tokens& text) {
  Manifest m;
  m.architecture = s.architecture->json();
  m.options = saved_options(s.options);
  m.rates = s.rates;
  m.seed = s.seed;
  m.steps_per_epoch = Draws(text, s.options.window, s.options.step_sequences(), m.seed).steps_per_epoch();
  m.text = {text.size(), text.hash()};
  return m;
}

// The persistent region as a file holds it, from either device.
inline std::vector<std::byte> persistent_bytes(const Session& session) {
  const Plan& plan = session.arena.plan();
  std::vector<std::byte> image(plan.device.persistent);
  for (std::size_t i = 0; i < plan.buffers.size(); ++i) {
    const Buffer& b = plan.buffers[i];
    if (b.kind == BufferKind::persistent) session.program.read({i}, image.data() + b.offset, b.bytes);
  }
  return image;
}

// Runs the steps up to `end`, from the start or from a checkpoint, and saves every so many steps (0: never), during training if the
// plan has a snapshot. Of several ranks one has a directory.
inline void run_part(const RestartSettings& s, Fit fit, const Tokens& text, const Checkpoint* from, std::int64_t end,
                     CheckpointDirectory* directory, std::int64_t save_every, RunRecord& record) {
  Session session(std::move(fit), s.place, from);
  if (from) restore(session, *from);
  else initialize(session.model, session.program, s.seed);
  std::optional<Saver> saver;
  if (directory) saver.emplace(session, manifest_of(s, text), *directory);
  Trainer trainer(session.model, session.program, text, s.rates, s.seed, from ? from->manifest().standing.steps : 0, session.rank);
  while (trainer.step() < end) {
    const StepResult result = trainer.run_step(s.steps);
    record.outcome.losses.push_back(result.loss);
    record.outcome.norms.push_back(static_cast<float>(result.grad_norm));
    const TensorView batch = session.program.view(session.model.ports.batch);
    record.batches.insert(record.batches.end(), batch.as<std::int32_t>(), batch.as<std::int32_t>() + batch.elements());
    if (save_every > 0 && trainer.step() % save_every == 0) {
      session.program.run(session.model.programs.compare);  // nothing with one rank
      if (!saver) continue;
      ASSERT_EQ(saver->result(true).value_or(Saved::yes), Saved::yes) << saver->error();  // the save before, if any
      saver->begin({trainer.step(), s.steps, 0.0});
    }
  }
  if (saver) {
    ASSERT_EQ(saver->result(true).value_or(Saved::yes), Saved::yes) << saver->error();
  }
  record.outcome.persistent = persistent_bytes(session);
}

inline Tokens random_text(Random& random, const TemporaryDirectory& directory, const ArchitecturePtr& a, std::int64_t tokens) {
  std::vector<std::uint16_t> ids(static_cast<std::size_t>(tokens));
  for (auto& id : ids) id = static_cast<std::uint16_t>(random.between(0, a->vocabulary() - 1));
  return Tokens({directory.file("text.bin", {reinterpret_cast<const char*>(ids.data()), ids.size() * 2})}, nullptr);
}

// Runs 20 steps, cut at a random one, across at least one end of an epoch; continues after the cut with any budget, schedule and
// number of threads, overlaid or not.
inline void check_restart(std::uint64_t seed, Draw draw = random_brain) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random random(seed);
  const TemporaryDirectory directory;
  RestartSettings s;
  s.architecture = draw(random);
  s.options = random_step(random, *s.architecture);
  s.options.window = random.one_of({1, 7, 16, 33, 64});
  s.seed = static_cast<std::uint64_t>(random.between(0, INT64_MAX - 1));
  const std::int64_t per_epoch = random.between(3, 15), rest = s.options.step_tokens() / 2 + 1;
  const Tokens text = random_text(random, directory, s.architecture, per_epoch * s.options.step_tokens() + rest);
  const auto plan = [&](const StepOptions& o, bool overlay) {
    Budget budget = kPlenty;
    budget.snapshot = random.one_of({Snapshot::none, Snapshot::in_budget});
    budget.overlay = overlay;
    return planned(build_training(s.architecture, o), budget);
  };
  RunRecord whole, parts;
  run_part(s, plan(s.options, true), text, nullptr, s.steps, nullptr, 0, whole);

  const std::int64_t cut = random.between(1, s.steps - 1), every = random.one_of<std::int64_t>({1, cut});
  const std::string path = directory.path("checkpoints");
  CheckpointDirectory saved(path, 2, false);
  run_part(s, plan(s.options, true), text, nullptr, cut, &saved, every, parts);
  StepOptions other = s.options;
  const auto list = schedules(*s.architecture, s.options);
  other.schedule = list[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(list.size()) - 1))];
  other.target.threads = random.between(1, 3);
  const Checkpoint from(checkpoint_file(path));
  ASSERT_EQ(from.manifest().standing.steps, cut);
  from.verify();
  run_part(s, plan(other, random.between(0, 1) == 1), text, &from, s.steps, &saved, random.between(2, 5), parts);
  EXPECT_TRUE(parts == whole) << describe(*s.architecture, other) << ", cut after " << cut;
}

}  // namespace neurogen

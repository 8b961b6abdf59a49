// What an engine holds, for the files that implement it.
#pragma once
#include <memory>
#include <optional>

#include "arena/allocations.h"
#include "engine/files/checkpoint_file.h"
#include "engine/run/evaluator.h"
#include "engine/run/readout.h"
#include "engine/run/sampler.h"
#include "engine/run/saver.h"
#include "engine/run/stream.h"
#include "engine/run/training_step.h"
#include "engine/run/weights.h"
#include "kernels/base/openblas.h"
#include "neurogen/engine.h"

namespace neurogen {

inline constexpr std::int64_t kRowsAtOnce = 64;  // rows of a tensor that are copied to the caller at once

// Throw Error that names the argument.
void check_row(std::int64_t id, std::int64_t vocabulary);
void check_size(const char* field, std::size_t size, std::int64_t needed, std::string_view shape);

MemoryPlan memory_plan(const Resolved& resolved, const Fit& fit);

// State of the caller's thread while an engine works on it.
class Working {
 public:
  Working(AllocationAccount* account, [[maybe_unused]] const Place& place) : charge_(account) {
    if (!place.gpu) products_.emplace();
#ifdef NEUROGEN_CUDA
    if (place.gpu) gpu_.emplace(place.ordinal);
#endif
  }

 private:
  ChargeAllocations charge_;
  std::optional<SerialProducts> products_;
#ifdef NEUROGEN_CUDA
  std::optional<CurrentGpu> gpu_;
#endif
};

struct Engine::State {
  State(std::unique_ptr<AllocationAccount> account, const EngineOptions& o, const Resolved& r, Fit planned);

  std::size_t vocabulary() const { return static_cast<std::size_t>(model.architecture->vocabulary()); }
  std::int64_t width(const Probe& probe) const { return program.view(probe.output)[1]; }
  std::int64_t longest_row() const;  // elements of the rows that `readout` reads at once, at most
  Working work() const { return Working(allocations.get(), place); }

  // Makes the manifest of this run's checkpoints, without a text.
  void prepare_to_save();
  // Checks `count` batches of the caller's; copies one into the engine's; both.
  void check_batches(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids, std::int64_t count) const;
  void put_batch(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids);
  void take_batch(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids);
  // Resumes a run.
  void load(const Checkpoint& from);

  std::unique_ptr<AllocationAccount> allocations;  // since the end of create()
  const EngineOptions options;
  const Place place;
  const MemoryPlan plan;
  Session session;
  const Model& model;
  Program& program;
  TrainingStep step;
  Evaluator evaluator;
  Stream stream;
  SamplerVectors memory;
  Sampler sampler;
  TensorId embedding;
  mutable Readout readout;
  std::string device;
  CheckpointFile file;
  std::optional<Saver> saver;
  std::int64_t schedule = 0;  // steps of the whole run; 0: unknown
  bool batch_there = false;
  std::optional<std::int32_t> unread;    // the latest token of the text in generation; none: no text is begun, or it has ended
  std::unique_ptr<Tokenizer> tokenizer;  // of the loaded weights, may be null
};

}  // namespace neurogen

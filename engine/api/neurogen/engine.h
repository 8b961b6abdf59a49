// The NeuroGen engine as a library: a brain in its planned memory, trained on batches that the caller brings.
//
//   neurogen::EngineOptions options;
//   options.architecture = "tiny";
//   auto engine = neurogen::Engine::create(options);
//   if (!engine) return complain(engine.failure().sentence);
//   for (...) engine.value().train_step_batch(ids, targets);
//
// Everything is allocated by create(); load() alone takes memory for as long as it runs, and a sentence for an answer where a call
// fails. Both copy the file that they read, as much memory as it is long, instead of mapping it: if it is cut short meanwhile, that
// is a failure, and no signal that ends the process. The library installs nothing in its process: no signal handlers, no allocator,
// no limits, no environment. (While an engine works, OpenBLAS is told to use one thread; the engine's own threads share the work.)
// Engines know nothing of each other. Each may be used from any thread, by one at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "export.h"
#include "recipe.h"
#include "result.h"
#include "settings.h"

namespace neurogen {

struct EngineOptions : BrainSettings {
  Rates rates;
  std::int64_t steps = 0;  // length of the run, after whose half the rates decline; 0: that of the checkpoint, else they never do
  std::int64_t seed = 1;   // of first weights and wiring
  std::string checkpoint;  // go on from this file, or from the newest of this directory: steps, weights, what optimizers remember
  std::string init;        // or take first weights from a safetensors file or a checkpoint
};

// Where the budget goes; all in bytes, exact.
struct MemoryPlan {
  std::uint64_t device_arena = 0, host_arena = 0;
  std::uint64_t overhead = 0;  // set aside for what no plan can place: libraries, heap, a GPU's context
  std::uint64_t total = 0, budget = 0;
  std::uint64_t minimum = 0;  // the smallest budget with which these settings run
  std::int64_t batch = 0, window = 0;
  std::string table, json;  // every buffer: for people, for programs
};

class NEUROGEN_API Engine {
 public:
  // Plans, takes the memory, and fills it. Refuses what does not fit into the budget before any of it is taken.
  static Result<Engine> create(const EngineOptions& options);

  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  const MemoryPlan& plan() const;
  std::string_view device() const;  // "cpu, 2 threads", "NVIDIA H200"
  std::int64_t vocabulary() const;
  std::int64_t steps() const;  // done

  // One step on [batch, window] token ids, row by row, and as many targets, each the token that follows; nothing is asked about
  // a target of -1. Returns the mean loss in nats a target, of the weights before the step. After a failure at run time (a loss
  // that is not finite) the weights are of no use any more: load() those of before.
  Result<double> train_step_batch(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids);

  // The mean loss in nats of a text of any length: every token but the first is predicted once, from those of its window before it.
  Result<double> evaluate(std::span<const std::int32_t> ids);

  // Goes on with the prompt, until `out` is full or a document ends, and returns how many tokens were made. The window's length
  // bounds attention alone: what came before it is remembered by the brain's state. Equal weights, prompts and settings give equal
  // tokens.
  Result<std::size_t> generate(std::span<const std::int32_t> prompt, std::span<std::int32_t> out, const Sampling& sampling = {});

  // A token's row of the embedding, where it lies: it changes with every step, and ends with the engine. Refused on a GPU, whose
  // memory the host cannot look at; read_embedding_row copies from anywhere.
  Result<std::span<const float>> embedding_row(std::int64_t id) const;
  Status read_embedding_row(std::int64_t id, std::span<float> out) const;
  std::int64_t embedding_width() const;

  // thalamus, wernicke, hippocampus, basal_ganglia, prefrontal, broca
  static std::vector<std::string_view> modules();
  Result<std::int64_t> outputs(std::string_view module) const;
  // What a module puts out, [batch, window, outputs], for the batch that was trained on last (or the last of those that evaluate()
  // made), by the weights as they are now.
  Status read_output(std::string_view module, std::span<float> out);

  // A checkpoint, whole under its name or what was there before. `neurogen-engine` reads it, too.
  Status save(std::string_view path);
  // Goes on from a checkpoint of this architecture, or from the newest of a directory. What is refused changes nothing.
  Status load(std::string_view path);

  // How often the engine's own code has asked for memory since create(), on the heap, by pages or on a GPU; what libraries do by
  // themselves is not in it.
  std::uint64_t allocations_since_construction() const;

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace neurogen

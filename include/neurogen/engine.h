// The NeuroGen engine as a library: a language model in planned memory, trained on the caller's batches.
//
//   neurogen::EngineOptions options;
//   options.architecture = "tiny";
//   auto engine = neurogen::Engine::create(options);
//   if (!engine) return complain(engine.failure().sentence);
//   for (...) engine->train_step_batch(ids, targets);
//
// create() allocates everything. Afterwards only load(), write_parameter() and export_weights(), while they run, and failures
// allocate. create() and load() read a file into memory of the file's size instead of mapping it: if the file is truncated
// meanwhile, the call fails, and no signal ends the process. The library installs nothing in its process: no signal handlers, no
// allocator, no limits, no environment. (While an engine works, OpenBLAS is set to one thread; the engine's own threads share the
// work.) Engines are independent of each other. An engine may be used from any thread, but only by one at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "neurogen/export.h"
#include "neurogen/recipe.h"
#include "neurogen/result.h"
#include "neurogen/settings.h"
#include "neurogen/version.h"

namespace neurogen {

// "3200M", "2.98Gi" or "12345" in bytes: K, M, G, T are powers of 1,000, Ki, Mi, Gi, Ti of 1,024. `field` names it in a failure.
NEUROGEN_API Result<std::uint64_t> parse_bytes(std::string_view text, std::string_view field = "text");

struct EngineOptions : ModelSettings {
  Rates rates;
  std::int64_t steps = 0;  // length of the run; the rates decline after half of it. 0: the checkpoint's, else they never decline
  std::int64_t seed = 1;   // for initial weights and wiring
  std::string checkpoint;  // resume from this file, or the newest in this directory: steps, weights, optimizer state
  std::string init;        // or take initial weights from a safetensors file or a checkpoint
};

// Memory by purpose; in bytes, exact.
struct MemoryPlan {
  std::uint64_t device_arena = 0, host_arena = 0;
  std::uint64_t overhead = 0;  // reserved for what no plan can place: libraries, heap, a GPU's context
  std::uint64_t total = 0, budget = 0;
  std::uint64_t minimum = 0;  // the smallest budget with which these settings run
  std::int64_t batch = 0, window = 0, accumulate = 1;
  std::string table, json;  // every buffer: as a table for people, as JSON for programs
  bool fits = true;
  std::string refusal;  // if it does not fit: a page that says so, with what is alive at the peak and settings that would fit
};

// One training step.
struct TrainingStepReport {
  double loss = 0;           // mean nats per target, of the weights before the step
  double gradient_norm = 0;  // before clipping, without the decoder
  double learning_rate = 0;  // with warm-up and decline
  bool skipped = false;      // with f16: a gradient overflowed, and not everything was updated
};

// A parameter of the model, in the order of `Engine::parameters`.
struct ParameterInfo {
  std::string name;  // "broca.gain"
  std::vector<std::int64_t> shape;
};

class NEUROGEN_API Engine {
 public:
  // The memory that create() would take, without taking it. An absent GPU is planned for as a small one that has bf16.
  static Result<MemoryPlan> plan(const EngineOptions& options);
  // Plans, allocates and initializes. Settings that do not fit into the budget are refused before any memory is allocated.
  static Result<Engine> create(const EngineOptions& options);

  // An engine that was moved from can only be destroyed or assigned to; assigning frees the engine that was there.
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  const MemoryPlan& plan() const;
  std::string_view device() const;  // "cpu, 2 threads", "NVIDIA H200"
  std::int64_t vocabulary() const;
  std::int64_t steps() const;  // done

  // One step on token ids [accumulate * batch, window], row-major, and targets of the same shape, each the token that follows; -1
  // is not counted. After a failure at run time (a loss that is not finite) the weights are unusable: load() earlier ones.
  Result<TrainingStepReport> train_step_batch(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids);

  // Mean loss in nats per token of a text of any length. Every token but the first is predicted once, from the tokens before it in
  // its window.
  Result<double> evaluate(std::span<const std::int32_t> ids);

  // On a batch [batch, window], without training: the loss of every target in nats, [batch, window], 0 where it is not counted;
  // and the logits of the token after each input, [batch, window, vocabulary].
  Status losses(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids, std::span<float> out);
  Status logits(std::span<const std::int32_t> input_ids, std::span<float> out);

  // Continues the prompt until `out` is full or a document ends, and returns the number of tokens generated. The window limits only
  // attention: the recurrent state remembers what came before. Equal weights, prompts and settings give equal tokens.
  Result<std::size_t> generate(std::span<const std::int32_t> prompt, std::span<std::int32_t> out, const Sampling& sampling = {});

  // The same, token by token: `take` gets each as it is drawn and returns whether to go on. It may use the engine, but not for
  // another text; its exceptions reach the caller.
  Status generate(std::span<const std::int32_t> prompt, const std::function<bool(std::int32_t token)>& take,
                  const Sampling& sampling = {});
  // Several prompts, one after the other, each with the tokens that it would get alone. If `take` returns false, the next prompt
  // is begun. If one of the prompts is refused, none is begun.
  Status generate(std::span<const std::vector<std::int32_t>> prompts,
                  const std::function<bool(std::size_t prompt, std::int32_t token)>& take, const Sampling& sampling = {});

  // The same at the caller's pace: begin() takes a prompt in, and each next() draws a token, none after a document's end. Other
  // calls may come between, except one that begins another text.
  Status begin(std::span<const std::int32_t> prompt, const Sampling& sampling = {});
  Result<std::optional<std::int32_t>> next();

  // The parameters in canonical order, and their values as float32, row-major. Writing rounds to the stored type and keeps the
  // optimizer's state; values must be finite.
  std::vector<ParameterInfo> parameters() const;
  Status read_parameter(std::string_view name, std::span<float> out) const;
  Status write_parameter(std::string_view name, std::span<const float> values);

  // A token's embedding row, in the engine's memory: it changes with every step and is valid as long as the engine. Refused on a
  // GPU, whose memory the host cannot read; read_embedding_row works on both.
  Result<std::span<const float>> embedding_row(std::int64_t id) const;
  Status read_embedding_row(std::int64_t id, std::span<float> out) const;
  std::int64_t embedding_width() const;

  // The parts of the model whose outputs can be read, in order of computation; a brain's: thalamus, wernicke, hippocampus,
  // basal_ganglia, prefrontal, broca. The names live as long as the engine.
  std::vector<std::string_view> modules() const;
  Result<std::int64_t> outputs(std::string_view module) const;
  // A module's outputs, [batch, window, outputs], on the latest batch that the engine was given, computed with the current weights.
  Status read_output(std::string_view module, std::span<float> out);

  // Writes a checkpoint atomically: if it fails, an existing file stays. `neurogen-engine` reads it too.
  Status save(std::string_view path);
  // Writes parameters, wiring and the tokenizer that came with the weights as a safetensors file, atomically.
  Status export_weights(std::string_view path);
  // Resumes from a checkpoint of this architecture, or from the newest in a directory. A refused one changes nothing.
  Status load(std::string_view path);

  // Number of allocations by the engine's own code since create(): on the heap, by mmap or on a GPU. Allocations that libraries
  // make internally are not counted.
  std::uint64_t allocations_since_construction() const;

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace neurogen

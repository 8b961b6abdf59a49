// A brain as a graph: its parameters in canonical order, and the programs that train, evaluate and generate.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "engine/brain/architecture.h"
#include "engine/brain/options.h"
#include "engine/graph/graph.h"

namespace neurogen {

inline constexpr std::int64_t kStagingSlots = 4;  // of Brain::staging

enum class UpdateRule { adamw, adamw_decay, rowwise_rmsprop, adafactor };

struct Parameter {
  std::string name;  // "wernicke.synapses"
  Shape shape;
  UpdateRule rule;
  TensorId value;  // persistent
  // Persistent. AdamW's moments; a table has one second moment a row. Empty for the decoder and without training.
  TensorId m, v;
};

// Parameters are found by name once, at start-up.
struct Brain {
  Architecture architecture;
  BrainOptions options;
  Graph graph;

  std::vector<Parameter> parameters;                     // canonical order: embedding, modules, gate bias, decoder
  std::array<TensorId, kModules> wiring;                 // [G, K] i32, persistent
  std::array<TensorId, kModules> reader_start, readers;  // inverse wiring, derived (training)
  TensorId decoder_row, decoder_column;                  // [V], [O], persistent: Adafactor's statistics
  TensorId loss_scale;                                   // LossScaleState, persistent; empty without loss scaling

  TensorId control;                 // StepControl, derived: the device's copy
  TensorId host_control;            // StepControl in the host arena: input of the next step
  TensorId host_outcome;            // StepControl in the host arena, after the step; empty without loss scaling
  TensorId workspace;               // for the matrix library, derived; empty on a CPU
  TensorId host_batch;              // [2, N] i32 in the host arena: token ids, targets
  TensorId host_loss;               // [2] f64 in the host arena: sum of losses, counted tokens
  TensorId host_hits;               // [2] f64 in the host arena: targets predicted first, among the first five
  TensorId host_norm;               // [2] in the host arena: gradient norm, clip factor
  TensorId staging;                 // [kStagingSlots, bytes] in the host arena, for copies between files and a GPU; empty on a CPU
  TensorId features;                // broca's outputs in the first program, [N, O] (transient)
  std::vector<TensorId> gradients;  // one per parameter (transient); empty for the decoder. Tables: touched rows
  std::vector<TensorId> decoder_gradients;  // one per run of vocabulary rows, in order (transient)

  // Streaming.
  TensorId host_token;          // [1, 1] i32 in the host arena: the next input token
  std::vector<TensorId> state;  // a stream's memory, derived: cleared to start over
  TensorId host_logits;         // [V] in the host arena
  TensorId host_position;       // [2] i64 in the host arena: tokens so far, position of the document's first

  const Parameter& parameter(const std::string& name) const;
};

// Programs "train" and "evaluate" on batches of options.batch windows, and "derive", which computes the derived tensors; with
// options.stream also "step" (build_stream).
// train reads host_batch and host_control, updates every parameter, writes host_loss and host_norm.
// evaluate reads host_batch and writes host_loss.
Brain build_training(const Architecture& architecture, const BrainOptions& options);

// Only parameters and the program "evaluate", which also counts correct predictions and writes host_hits: in a training program
// that would cost time.
Brain build_evaluation(const Architecture& architecture, const BrainOptions& options);

// Program "step": one token of one stream (host_token) to host_logits; options.window is the length of the ring of
// keys and values. Ignores batch and schedule.
Brain build_stream(const Architecture& architecture, const BrainOptions& options);

// Shapes and rules of all parameters in canonical order, without the wiring.
std::vector<Parameter> parameters_of(const Architecture& architecture);

}  // namespace neurogen

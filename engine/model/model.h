// A model as a graph: its parameters in canonical order, and the programs that train, evaluate and generate. What runs a model,
// saves it or shows it knows only this, whatever its family.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/model/architecture.h"
#include "engine/model/options.h"

namespace neurogen {

inline constexpr std::int64_t kStagingSlots = 4;  // of Ports::staging

enum class UpdateRule { adamw, muon, rowwise_rmsprop, adafactor, none };  // none: frozen, and loaded from a file

// The first value of element i of a parameter, a function of seed and random stream, so that it depends on no device or thread.
using FirstValue = std::function<double(std::uint64_t seed, std::uint64_t stream, std::uint64_t i)>;
FirstValue constant(double value);
FirstValue normals(double deviation);  // N(0, deviation^2)

inline constexpr double kMatrixDecay = 0.1;  // AdamW's, of matrices

struct ParameterSpec {
  std::string name;  // "wernicke.synapses"
  Shape shape;
  UpdateRule rule;
  FirstValue first;
  bool operand = false;  // 16-bit products read a copy of it, Parameter::low
  double decay = 0;      // by AdamW
};

struct Parameter : ParameterSpec {
  TensorId value;  // persistent; of a frozen one loaded, in the type of products if it is a matrix or a table
  // Persistent, with training: AdamW's moments; of a matrix under Muon the momentum m; of a table one second moment a row, v. The
  // decoder has its own statistics.
  TensorId m, v;
  TensorId m_scale, v_scale;  // of moments in 8 bits
  TensorId low;               // derived: the copy in 16 bits that products read; empty if they read the value itself
  // With training: its gradient. In steps of one batch it is transient; of a table under row-wise RMSProp, of the `touched.count`
  // rows in `touched.rows`; empty for a decoder under Adafactor, which is updated tile by tile. With several micro-batches it is
  // derived, whole, and the mean over those so far.
  TensorId gradient;
  struct {
    TensorId rows, count;
  } touched;
  struct {
    std::size_t a = 0, b = 0;
  } adapter;  // places of the matrices of its adapter, 0: none
  // The rank that updates it and passes on what products read; -1: every rank updates it. Matrices under Muon have one.
  int owner = -1;
  std::uint64_t draws = 0;  // seeds the random roundings of what is stored in fewer bits; equal on every device
};

// A tensor of whole numbers that belongs to the weights and is not trained, such as a brain's wiring.
struct FixedTensor {
  std::string name;
  Shape shape;         // i32
  std::int64_t bound;  // every value is in [0, bound)
  std::function<std::vector<std::int32_t>(std::uint64_t seed)> first;
  TensorId value;  // persistent
};

// Tensors by which a model is driven, in the host arena. Those that its programs do not need are empty.
struct Ports {
  TensorId batch;      // [2, N] i32: token ids, targets
  TensorId control;    // StepControl: input of the next step
  TensorId loss;       // [2] f64: sum of losses, counted tokens
  TensorId hits;       // [2] f64: targets predicted first, among the first five; only with build_evaluation
  TensorId norm;       // [2]: gradient norm, clip factor
  TensorId outcome;    // StepControl after the step; with loss scaling
  TensorId staging;    // [kStagingSlots, bytes], for copies between files and a GPU
  TensorId checksums;  // [Model::compared] i64 (kernels/checksum.h); with several ranks
  // Streaming.
  TensorId token;     // [1, streams] i32: the next input token of each text
  TensorId position;  // [2] i64: tokens so far, position of the document's first; equal for all texts
  TensorId logits;    // [streams, V]: of the token after it
};

// Each range is empty if the model was built without that program. With several ranks, those that train run on all of them at once.
struct Programs {
  Graph::Range train{};  // reads batch and control, updates every parameter, writes loss and norm
  // A step in micro-batches is begin_step, which reads control; train for each, which reads batch and writes loss; and end_step,
  // which updates every parameter and writes norm. Otherwise these two are empty, and train is the whole step.
  Graph::Range begin_step{}, end_step{};
  Graph::Range evaluate{};  // reads batch, writes loss
  Graph::Range step{};      // reads token and position, writes logits
  Graph::Range derive{};    // computes the derived tensors
  // With several ranks: completes the persistent tensors, of which a rank keeps its share alone up to date, and writes checksums,
  // which are equal on all ranks. Whatever reads persistent tensors after training, a save or an export, comes behind it.
  Graph::Range compare{};
};

// A part of "evaluate" whose outputs can be read when the operations before `end` have run.
struct Probe {
  std::string name;  // "wernicke", or "layers.0", of which the outputs are the hidden layer's
  std::size_t end;
  TensorId output;  // [N, O]
  // Parameters that say something about these outputs, if the family has them: 1 + exp(retain) is an output's time constant in
  // tokens, [O]; sigma(output + gate_bias) is how open it holds a gate, [O].
  TensorId retain, gate_bias;
};

// The logits of a tile of the vocabulary in "evaluate", readable when the operations before `end` have run.
struct LogitsTile {
  std::size_t end;
  TensorId logits;  // [N, >= tokens]
  std::int64_t tokens;
};

struct Model {
  ArchitecturePtr architecture;
  StepOptions options;
  Graph graph;

  std::vector<Parameter> parameters;  // in canonical order
  std::vector<FixedTensor> fixed;     // saved after the parameters
  Ports ports;
  Programs programs;
  std::vector<Probe> probes;             // in the order of "evaluate"
  std::vector<LogitsTile> logits_tiles;  // likewise
  TensorId token_losses;                 // [N], of "evaluate", transient: readable after it has run

  std::vector<TensorId> state;     // a stream's memory, derived: cleared to start over
  TensorId loss_scale;             // LossScaleState, persistent; empty without loss scaling
  std::vector<TensorId> compared;  // what checksums are of: every persistent tensor, and what products read of those with an owner
  TensorId workspace;              // for the matrix library, derived; empty on a CPU
  // For checks: the head's input in "train", and, under Adafactor, its gradients, one per run of vocabulary rows.
  TensorId features;
  std::vector<TensorId> decoder_gradients;

  const Parameter& parameter(const std::string& name) const;  // throws std::out_of_range
  std::size_t weight_tensors() const;                         // the first persistent tensors
};

// Programs train, evaluate (on batches of options.batch windows) and derive; with options.stream also step.
Model build_training(ArchitecturePtr architecture, const StepOptions& options);
// Parameters and fixed tensors, evaluate and derive. Evaluation also counts correct predictions: in a training program that would
// cost time.
Model build_evaluation(ArchitecturePtr architecture, const StepOptions& options);
// Parameters and fixed tensors, step and derive: one token of each of options.streams texts. options.window is the number of tokens
// that attention looks back on. Ignores batch and schedule.
Model build_stream(ArchitecturePtr architecture, const StepOptions& options);

}  // namespace neurogen

// Internal to engine/brain: adds a brain's tensors and operations to its graph.
#pragma once
#include "engine/brain/brain.h"
#include "kernels/microcircuit.h"
#include "kernels/synapses.h"

namespace neurogen {

// A run of whole sequences: rows [begin, begin + rows) of every [N, ...] tensor.
struct Section {
  std::int64_t begin, rows;
};

// A range of column groups of one module.
struct Tile {
  std::int64_t group, groups;
  std::int64_t output() const { return group * kGroup; }
  std::int64_t outputs() const { return groups * kGroup; }
};

// Outputs of the forward pass. All [N, ...], rows in batch order.
struct Activations {
  TensorId ids, targets, first;            // [N] i32
  TensorId pair_rows;                      // [N] i32; empty without a pair table
  TensorId embedding, embedding_scale;     // [N, E], [N] inverse rms
  std::array<TensorId, kModules> output;   // [N, O]
  std::array<TensorId, kModules> scale;    // [N] inverse rms
  std::array<TensorId, kModules> carried;  // for fused modules in training: states between tokens (cortical_columns.h)
  TensorId of(int source) const { return source == kEmbeddingSource ? embedding : output[source]; }
};

// The gradient of a table: of the rows that the batch touches alone.
struct TouchedTable {
  TensorId rows, count;  // [U] i32, [1] i32 (kernels/embedding.h)
  TensorId gradient;     // [U, E]
};

// Gradients of parameters, by module, and of the embedding's output, [N, E].
struct Gradients {
  std::array<TensorId, kModules> synapses, taps, bias, gain, retain;
  TensorId gate_bias, embedding_output, embedding_gain;
  TouchedTable embedding_weight, embedding_pairs;  // the second stays empty without a pair table
};

class Builder {
 public:
  explicit Builder(Brain& brain);

  // parameters.cpp: persistent and derived tensors, and the program that computes the derived ones.
  void declare_parameters(bool training);
  void derive();

  // forward.cpp
  void read_control();
  Activations read_batch(const std::string& prefix, bool with_targets);
  void forward(Activations& a, const std::string& prefix, bool training);

  // decoder.cpp: returns the gradient of broca's outputs, [N, O].
  TensorId decoder_training(const Activations& a);
  void decoder_evaluation(const std::string& prefix, const Activations& a);
  void decoder_stream(const std::string& prefix, const Activations& a);

  // backward.cpp
  Gradients backward(const Activations& a, TensorId d_broca);

  // update.cpp
  void update(const Gradients& gradients);

  // stream.cpp: switches to single tokens with memory: recurrent state, and keys and values of the last `ring` tokens.
  void declare_stream(std::int64_t ring);

 private:
  struct ModuleParameters {
    TensorId synapses, taps, bias, gain, retain;
    TensorId low_synapses;  // operand of the products: synapses, or their 16-bit copy, written by derive and update
  };
  TensorId low_copy(TensorId parameter) const;  // empty if products read the parameter itself, and for all but synapses

  std::vector<Section> sections() const;
  std::vector<Tile> tiles(ModuleIndex module, Section section) const;
  std::int64_t rows_per_product() const;
  TensorId scratch(const std::string& name, std::int64_t elements);  // [threads, elements]; empty with CUDA

  // `groups` products [m, k] x [k, n], and attention over whole windows with `products` products of scores.
  Cost product_cost(std::int64_t groups, std::int64_t m, std::int64_t n, std::int64_t k) const;
  Cost attention_cost(Section section, Tile tile, const Module& module, double products) const;

  // Tensors of other modules that a microcircuit reads besides its sources; empty if it has none.
  struct Companions {
    TensorId residual, opener, gate_bias;
  };
  Companions companions(ModuleIndex module, const Activations& a) const;
  std::vector<TensorId> source_ids(ModuleIndex module, const Activations& a) const;
  DType type_of_currents(ModuleIndex module) const;
  // Adds the operation that computes currents of a tile's neurons over a section. before: a stream's memory, or empty.
  TensorId currents(const std::string& name, ModuleIndex module, const Activations& a, Section section, Tile tile, TensorId before);
  void forward_module(ModuleIndex module, Activations& a, Section section, const std::string& prefix);

  // embedding.cpp
  void forward_embedding(Activations& a, const std::string& prefix);
  void backward_embedding(const Activations& a, Gradients& gradients);  // turns the output's gradient into that of both tables
  TouchedTable table_gradient(const Parameter& table, TensorId ids, TensorId d_x, double scale);

  // columns.cpp: synapses and microcircuit as one operation, on a GPU without currents in memory.
  bool fused(ModuleIndex module) const;
  bool in_taps(ModuleIndex module) const;  // on a GPU, if not fused: weights' gradients are kept as each tap has them until the end
  std::int64_t parts(ModuleIndex module) const;  // partial sums of its gradients (cortical_columns.h, synapses.h)
  struct ColumnTensors;
  ColumnTensors column_tensors(ModuleIndex module, const Activations& a) const;
  void forward_columns(const std::string& name, ModuleIndex module, const Activations& a, Section section, TensorId pre_norm);

  // stream.cpp
  bool single() const { return ring_ > 0 && options_.threads == 0; }  // one token on a GPU: separate operations
  void step_columns(const std::string& name, ModuleIndex module, const Activations& a, TensorId pre_norm, TensorId state,
                    TensorId before);
  TensorId remembered(const std::string& name, const Shape& shape);
  void attend_ring(const std::string& name, TensorId currents, TensorId pre_norm);

  // backward.cpp
  struct OutputGradients {
    TensorId broca, embedding;              // [N, O], [N, E], the whole batch
    std::array<TensorId, kModules> output;  // [rows, O], this section; broca's stays empty
    bool embedding_begun = false;           // this section's rows hold a gradient already
  };
  struct OutputGradient {
    TensorId id;
    bool begun;  // false: not written yet
  };
  Gradients declare_gradients();
  void clear_gradients(const Gradients& gradients);
  OutputGradient output_gradient(OutputGradients& d, int source, Section section, const std::string& prefix);
  TensorId begun_gradient(OutputGradients& d, int source, Section section, const std::string& prefix);
  void backward_module(ModuleIndex module, const Activations& a, Section section, OutputGradients& d, const Gradients& gradients,
                       const std::string& prefix);

  // columns.cpp, backward
  struct ModuleGradients {
    TensorId d_out;
    Section d_out_rows;
    TensorId dot, d_residual, d_gate;
    std::vector<TensorId> d_sources;
    bool residual_stored;  // d_residual is not written yet
    unsigned stored;       // bit k: d_sources[k] is not written yet
  };
  void backward_columns(const std::string& name, ModuleIndex module, const Activations& a, Section section,
                        const ModuleGradients& d, const Gradients& gradients);
  Gradients declare_parts(const Gradients& totals);  // sections add to these; a gradient without parts is its own total
  void sum_parts(const Gradients& parts, const Gradients& totals);

  // update.cpp
  std::vector<TensorId> in_order(const Gradients& gradients) const;

  // decoder.cpp
  struct VocabularyTile {
    std::int64_t begin, tokens;
    std::int64_t column = 0;  // in the kept logits
  };
  struct TileWeights {
    TensorId id;
    std::int64_t row;  // of the tile's first token
  };
  struct LossStatistics {
    TensorId maximum, sum, target_logit, log_sum_exp, loss, total;
  };
  std::vector<VocabularyTile> vocabulary_tiles() const;
  bool at_once() const;
  TileWeights tile_weights(const std::string& name, VocabularyTile tile);
  void logits_tile(const std::string& name, TensorId features, VocabularyTile tile, TensorId logits, std::int64_t column);
  TensorId loss_forward(const std::string& prefix, const Activations& a, LossStatistics& l, bool keep);

  Brain& brain_;
  Graph& graph_;
  const Architecture& architecture_;
  const BrainOptions& options_;
  DType real_, compute_;
  DType gradient_;        // type of gradients of outputs and the decoder, and of norms' inputs: bf16 with bf16; f16 lacks the range
  double element_bytes_;  // of the compute type
  TensorId embedding_weight_, embedding_pairs_, embedding_gain_, gate_bias_, decoder_;
  std::array<ModuleParameters, kModules> module_;
  std::int64_t ring_ = 0;  // tokens in a stream's ring; 0: not a stream
  TensorId keys_, values_, position_;
  TensorId done_;  // [modules] i32, all 0 between operations; with single()
};

}  // namespace neurogen

// The modules of a brain: their tensors, forward pass, backward pass and single tokens.
#pragma once
#include <array>

#include "engine/brain/architecture.h"
#include "engine/model/embedding.h"
#include "engine/model/trunk.h"
#include "kernels/brain/microcircuit.h"
#include "kernels/brain/synapses.h"

namespace neurogen {

// A range of column groups of one module.
struct Tile {
  std::int64_t group, groups;
  std::int64_t output() const { return group * kGroup; }
  std::int64_t outputs() const { return groups * kGroup; }
};

class BrainTrunk final : public Trunk {
 public:
  BrainTrunk(const BrainShape& shape, Assembly& assembly);

  void declare_parameters() override;
  void declare_fixed() override;
  void declare_derived() override;
  TensorId forward(const Batch& batch, const std::string& prefix, bool training) override;
  void backward(TensorId d_broca) override;
  TensorId step(const std::string& prefix, std::int64_t ring) override;
  void derive() override;

 private:
  // Outputs of the forward pass. All [N, ...], rows in batch order.
  struct Activations {
    TensorId first;                          // [N] i32
    TensorId embedding;                      // [N, E]
    std::array<TensorId, kModules> output;   // [N, O]
    std::array<TensorId, kModules> scale;    // [N] inverse rms
    std::array<TensorId, kModules> carried;  // for fused modules in training: states between tokens (cortical_columns.h)
    TensorId of(int source) const { return source == kEmbeddingSource ? embedding : output[source]; }
  };

  // trunk.cpp
  struct ModuleIds {
    ParameterId synapses = 0, taps = 0, bias = 0, gain = 0, retain = 0;
  };
  struct ModuleParameters {
    TensorId synapses, taps, bias, gain, retain;  // the hippocampus has no retain
    TensorId low_synapses;                        // operand of the products: synapses, or their 16-bit copy
  };
  ModuleParameters parameters(ModuleIndex module) const;
  std::vector<Tile> tiles(ModuleIndex module, Section section) const;
  // Attention over whole windows with `products` products of scores.
  Cost attention_cost(Section section, Tile tile, const Module& module, double products) const;
  // Tensors of other modules that a microcircuit reads besides its sources; empty if it has none.
  struct Companions {
    TensorId residual, opener, gate_bias;
  };
  Companions companions(ModuleIndex module, const Activations& a) const;
  std::vector<TensorId> source_ids(ModuleIndex module, const Activations& a) const;
  DType type_of_currents(ModuleIndex module) const;

  // forward.cpp
  // Adds the operation that computes currents of a tile's neurons over a section. before: a stream's memory, or empty.
  TensorId currents(const std::string& name, ModuleIndex module, const Activations& a, Section section, Tile tile, TensorId before);
  void forward_module(ModuleIndex module, Activations& a, Section section, const std::string& prefix);

  // columns.cpp: synapses and microcircuit as one operation, on a GPU without currents in memory.
  bool fused(ModuleIndex module) const;
  bool in_taps(ModuleIndex module) const;  // on a GPU, if not fused: weights' gradients are kept as each tap has them until the end
  std::int64_t parts(ModuleIndex module) const;  // partial sums of its gradients (cortical_columns.h, synapses.h)
  struct ColumnTensors;
  ColumnTensors column_tensors(ModuleIndex module, const Activations& a) const;
  void forward_columns(const std::string& name, ModuleIndex module, const Activations& a, Section section, TensorId pre_norm);

  // stream.cpp
  bool single() const { return ring_ > 0 && s_.options.target.gpu; }  // one token on a GPU: separate operations
  void step_columns(const std::string& name, ModuleIndex module, const Activations& a, TensorId pre_norm, TensorId state,
                    TensorId before);
  void attend_ring(const std::string& name, TensorId currents, TensorId pre_norm);

  // backward.cpp
  struct Gradients {  // of the parameters, by module
    std::array<TensorId, kModules> synapses, taps, bias, gain, retain;
    TensorId gate_bias;
    std::vector<TensorId> listed() const;  // in canonical order
  };
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

  Assembly& s_;
  const BrainShape& shape_;
  Embedding embedding_;
  std::array<ModuleIds, kModules> ids_;
  ParameterId gate_bias_ = 0;
  std::array<TensorId, kModules> wiring_;                  // [G, K] i32
  std::array<TensorId, kModules> reader_start_, readers_;  // inverse wiring, derived (training)
  Activations trained_;                                    // of the latest forward pass for training
  std::int64_t ring_ = 0;                                  // tokens in a stream's ring; 0: not a stream
  TensorId keys_, values_, position_;
  TensorId done_;  // [modules] i32, all 0 between operations; with single()
};

}  // namespace neurogen

// Block-sparse synapses: the currents into every neuron of a range of column groups.
//
// A column group is 32 neighbouring outputs with R roles each: 32 R neurons that read the same K source blocks of `width` (32 or
// 16) neighbouring sources, fan-in F = K width. Block b holds sources b width ... (b+1) width - 1 of the concatenated sources. Each
// group is one small dense product:
//   currents[g] = x_selected weight[g] + bias        column 32 r + j is role r of output 32 g + j
//
// All views cover the range: `wiring`, `weight`, `currents` start at its first group, `bias` at its first output. Every product
// takes `rows_per_product` tokens, so that results do not depend on how a batch is cut into sections, as long as sections start at
// multiples of it.
#pragma once
#include <array>

#include "arena/tensor_view.h"
#include "kernels/device.h"

namespace neurogen {

inline constexpr std::int64_t kGroup = 32;  // outputs in a column group

// A module's sources, in the order in which they are concatenated: up to four tensors [N, width_k], each width a multiple of 32.
struct Sources {
  std::array<TensorView, 4> outputs{};
  int count = 0;
};

struct SynapsesForward {
  Sources sources;
  TensorView wiring;                  // [G, K] i32 source blocks
  TensorView weight;                  // [G, F, 32R]
  TensorView bias;                    // [R, 32G], rows strided unless the range is the whole module
  TensorView currents;                // out [G, N, 32R], f32 or the weights' type
  std::int64_t rows_per_product = 0;  // tokens
  TensorView scratch;                 // [threads, synapses_scratch(F, rows_per_product)] of the compute type
};

struct SynapsesBackwardWeights {
  Sources sources;
  TensorView wiring;
  TensorView d_currents;        // [G, N, 32R]
  TensorView d_weight, d_bias;  // [parts G, F, 32R], [parts R, 32G]: added to, product by product in token order
  std::int64_t rows_per_product = 0;
  TensorView scratch;  // as in the forward pass
  // If a module has few groups, several blocks of a GPU share one: product p of the batch adds to part p % parts of the gradients;
  // the parts lie one after another. On a CPU there is one part.
  std::int64_t parts = 1, first_product = 0;  // first_product: index of these tokens' first product in the batch
};

// Each source block gathers from the groups that read it, in order, so that no two threads write to one place. Needs the whole
// module (all groups).
struct SynapsesBackwardSources {
  TensorView d_currents;    // [G, N, 32R]
  TensorView weight;        // [G, F, 32R]
  TensorView reader_start;  // [blocks + 1] i32 into readers
  TensorView readers;       // [G K] i32: group * K + slot of every reader of a block, ascending
  Sources d_sources;        // added to; f32, on a GPU bf16 beside bf16 weights
  std::int64_t rows_per_product = 0;
};

// Inverts a wiring; runs whenever the wiring changes. `blocks` is the number of source blocks.
struct SynapsesReaders {
  TensorView wiring;                 // [G, K] i32
  TensorView reader_start, readers;  // out, as above
};

std::int64_t synapses_scratch(std::int64_t fan_in, std::int64_t rows_per_product);  // elements per thread

void synapses_forward(CpuDevice& device, const SynapsesForward& arguments);
void synapses_backward_weights(CpuDevice& device, const SynapsesBackwardWeights& arguments);
void synapses_backward_sources(CpuDevice& device, const SynapsesBackwardSources& arguments);
void synapses_readers(CpuDevice& device, const SynapsesReaders& arguments);
void synapses_forward(CudaDevice& device, const SynapsesForward& arguments);
void synapses_backward_weights(CudaDevice& device, const SynapsesBackwardWeights& arguments);
void synapses_backward_sources(CudaDevice& device, const SynapsesBackwardSources& arguments);
void synapses_readers(CudaDevice& device, const SynapsesReaders& arguments);

}  // namespace neurogen

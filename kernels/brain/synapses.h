// Block-sparse synapses: the currents into every neuron of a range of column groups.
//
// A column group is 32 neighbouring outputs with R roles each: 32 R neurons that read the same K source blocks of `width` (32 or
// 16) neighbouring sources, fan-in F = K width. Block b holds sources b width ... (b+1) width - 1 of the concatenated sources. Each
// group is one small dense product, and a neuron hears its sum with a delay of one token as well, at two taps:
//   s[g] = x_selected weight[g]        column 32 r + j is role r of output 32 g + j
//   currents_t = taps[0] s_t + taps[1] s_{t-1} + bias        s_{t-1} = 0 if token t is the first of a window or a document
// So with d the currents' gradient, and d_{t+1} taken as 0 if that token starts anew:
//   d_s_t = taps[0] d_t + taps[1] d_{t+1}    d_taps[0] = sum of s_t d_t    d_taps[1] = sum of s_t d_{t+1}    d_bias = sum of d_t
//
// All views cover the range: `wiring`, `weight`, `currents` start at its first group, `taps` and `bias` at its first output. Every
// product takes `rows_per_product` tokens, whole windows, so that results do not depend on how a batch is cut into sections, as
// long as sections start at multiples of it.
#pragma once
#include <array>

#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

inline constexpr std::int64_t kGroup = 32;  // outputs in a column group

inline constexpr std::size_t kMostSources = 5;

// A module's sources, in the order in which they are concatenated: tensors [N, width_k], each width a multiple of 32.
struct Sources {
  std::array<TensorView, kMostSources> outputs{};
  int count = 0;
};

// Two taps on each neuron's sum, and where they begin to listen.
struct Taps {
  TensorView taps;   // [2R, 32G], rows strided unless the range is the whole module: R roles now, R roles a token ago
  TensorView first;  // [N] i32 (documents.h)
  std::int64_t window = 0;
};

struct SynapsesForward {
  Sources sources;
  TensorView wiring;  // [G, K] i32 source blocks
  TensorView weight;  // [G, F, 32R]
  Taps taps;
  TensorView bias;                    // [R, 32G], rows strided unless the range is the whole module
  TensorView currents;                // out [G, N, 32R], f32 or the weights' type
  std::int64_t rows_per_product = 0;  // tokens
  TensorView scratch;                 // [threads, synapses_scratch(F, rows_per_product)] of the compute type
  TensorView before{};                // [G, 32R] or empty: s before a single token, replaced by its own (streaming)
};

struct SynapsesBackwardWeights {
  Sources sources;
  TensorView wiring;
  TensorView weight;  // [G, F, 32R]; a GPU needs it only in synapses_backward_taps
  Taps taps;
  TensorView d_currents;                // [G, N, 32R]
  TensorView d_weight, d_taps, d_bias;  // [G, F, 32R], [2R, 32G], [R, 32G]: added to, product by product in token order
  std::int64_t rows_per_product = 0;
  TensorView scratch;  // [threads, synapses_scratch(F + 32R, rows_per_product)]
  // A GPU leaves d_taps and the total d_weight to synapses_backward_taps: its d_weight is [parts 2G, F, 32R], the gradients of the
  // weights as each tap has them. If a module has few groups, several blocks share one: product p of the batch adds to part p %
  // parts of the gradients; the parts lie one after another.
  std::int64_t parts = 1, first_product = 0;  // first_product: index of these tokens' first product in the batch
};

// From the gradients of the weights as each tap has them, summed over their parts: d_weight = the sum of taps times them, d_taps =
// the sum over the fan-in of weights times them.
struct SynapsesBackwardTaps {
  TensorView parts;             // [parts 2G, F, 32R] f32, from synapses_backward_weights
  TensorView weight;            // [G, F, 32R] f32
  TensorView taps;              // [2R, 32G] f32
  TensorView d_weight, d_taps;  // out [G, F, 32R], [2R, 32G] f32
};

// Each source block gathers from the groups that read it, in order, so that no two threads write to one place. Needs the whole
// module (all groups).
struct SynapsesBackwardSources {
  TensorView d_currents;  // [G, N, 32R]
  TensorView weight;      // [G, F, 32R]
  Taps taps;
  TensorView reader_start;  // [blocks + 1] i32 into readers
  TensorView readers;       // [G K] i32: group * K + slot of every reader of a block, ascending
  Sources d_sources;        // added to; f32, on a GPU bf16 beside bf16 weights
  std::int64_t rows_per_product = 0;
  TensorView scratch;  // [threads, synapses_scratch(32R, rows_per_product)], on a GPU [2G, F, 32R] in the weights' type
};

// Inverts a wiring; runs whenever the wiring changes. `blocks` is the number of source blocks.
struct SynapsesReaders {
  TensorView wiring;                 // [G, K] i32
  TensorView reader_start, readers;  // out, as above
};

// Elements per thread.
std::int64_t synapses_scratch(std::int64_t per_token, std::int64_t rows_per_product);

void synapses_forward(CpuDevice& device, const SynapsesForward& arguments);
void synapses_backward_weights(CpuDevice& device, const SynapsesBackwardWeights& arguments);
void synapses_backward_sources(CpuDevice& device, const SynapsesBackwardSources& arguments);
void synapses_readers(CpuDevice& device, const SynapsesReaders& arguments);
void synapses_forward(CudaDevice& device, const SynapsesForward& arguments);
void synapses_backward_weights(CudaDevice& device, const SynapsesBackwardWeights& arguments);
void synapses_backward_taps(CudaDevice& device, const SynapsesBackwardTaps& arguments);
void synapses_backward_sources(CudaDevice& device, const SynapsesBackwardSources& arguments);
void synapses_readers(CudaDevice& device, const SynapsesReaders& arguments);

}  // namespace neurogen

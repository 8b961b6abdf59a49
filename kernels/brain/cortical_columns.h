// A cortical module's column groups in one pass over its sources: synapses (synapses.h) and microcircuit (microcircuit.h) fused, in
// bf16 on a GPU, single tokens in any type. Currents and their gradients never leave the chip. Formulas and names are those of the
// two headers, and outputs and gradients equal theirs up to rounding; arguments are those of a whole module.
//
// A window is taken kCarry tokens at a time, in the backward pass from the end and 2 kCarry at a time if a block has room; it
// starts from the states that the forward pass stored in between. The sums of the token before are computed again: to store them
// for all neurons as well would take more than twice the memory of the states.
#pragma once
#include "kernels/base/several.h"
#include "kernels/brain/microcircuit.h"
#include "kernels/brain/synapses.h"

namespace neurogen {

inline constexpr std::int64_t kCarry = 32;              // tokens from one carried state to the next
inline constexpr std::int64_t kColumnsMostFanIn = 128;  // the largest fan-in whose weight gradient fits in a block's registers

inline std::int64_t carries(std::int64_t window) { return (window + kCarry - 1) / kCarry; }  // states per window

struct CorticalColumns {
  Sources sources;    // [N, width_k] bf16
  TensorView wiring;  // [G, K] i32
  TensorView weight;  // [G, F, 32R] bf16, F <= kColumnsMostFanIn, 2 <= R <= 5
  TensorView taps;    // [2R, 32G] f32
  TensorView bias;    // [R, 32G] f32
  TensorView retain;  // [32G] f32
  TensorView first;   // [N] i32
  std::int64_t window = 0;
  Gate gate;            // first_output 0
  TensorView residual;  // [N, 32G] bf16 or empty
  TensorView carried;   // [N / window * carries(window), 32G] f32: the state before every kCarry-th token of each window
};

// Writes `carried`, unless it is empty.
struct CorticalColumnsForward {
  CorticalColumns columns;
  TensorView pre_norm;  // out [N, 32G] bf16
};

struct CorticalColumnsBackward {
  CorticalColumns columns;                   // `carried` is read
  TensorView d_out, inverse_rms, dot, gain;  // [N, 32G] bf16, [N], [N], [32G] f32
  TensorView d_selected;                     // out [G K, N, F / K] bf16: the gradient of each slot's sources
  // If a module has few groups, several blocks share one: window w of the batch adds to part w % parts of the gradients; the parts
  // lie one after another.
  std::int64_t parts = 1, first_window = 0;  // first_window: index of these tokens' first window in the batch
  TensorView d_weight, d_taps, d_bias;       // f32 [parts G, F, 32R], [parts 2R, 32G], [parts R, 32G], added to in a fixed order
  TensorView d_retain, d_gain;               // f32 [parts 32G], added to window by window
  TensorView d_residual;                     // [N, 32G] bf16, added to; empty without residual
  TensorView d_gate;                         // out [N, 32G] bf16; empty without gate
  bool residual_stored = false;              // d_residual is overwritten instead of added to
};

// total = the sum of its parts, in order.
struct CorticalColumnsSum {
  TensorView parts;  // [parts * n, ...] f32, contiguous
  TensorView total;  // [n, ...] f32, contiguous
};

// Adds to each source block of d_sources the sum of its readers' slots, in order; for sources in `stored`, overwrites instead.
struct CorticalColumnsSources {
  TensorView d_selected;             // as above
  TensorView reader_start, readers;  // from synapses_readers
  Sources d_sources;                 // [N, width_k] bf16
  unsigned stored = 0;               // bit k: the k-th source is overwritten
};

// A single token, which continues from the state that the previous one left, followed by the module's norm (rms_norm.h).
struct CorticalColumnsStep {
  Sources sources;                                // [1, width_k] in the products' type
  TensorView wiring, weight, taps, bias, retain;  // as above, weight in the products' type, any fan-in
  Gate gate;                                      // first_output 0
  TensorView residual;                            // [1, 32G] or empty
  TensorView state;                               // [1, 32G] f32: h before the token, replaced by h after it
  TensorView before;                              // [G, 32R] f32: s before the token (synapses.h), replaced by its own
  TensorView gain;                                // [32G] f32
  TensorView pre_norm;                            // scratch [1, 32G] f32, or bf16 beside bf16
  TensorView done;                                // scratch [1] i32: 0 before and after the call
  TensorView out, inverse_rms;                    // out [1, 32G], [1] f32
};

void cortical_columns_forward(CudaDevice& device, const CorticalColumnsForward& arguments);
void cortical_columns_backward(CudaDevice& device, const CorticalColumnsBackward& arguments);
void cortical_columns_sum(CudaDevice& device, const Several<CorticalColumnsSum>& sums);
void cortical_columns_sources(CudaDevice& device, const CorticalColumnsSources& arguments);
void cortical_columns_step(CudaDevice& device, const CorticalColumnsStep& arguments);

}  // namespace neurogen

// The cortical microcircuit: R neurons per output, a gated recurrence that is linear in its state, so that a whole window is
// computed at once. For each output, over a window's tokens, h = 0 before the first token and at each document's start:
//   c = u[0]    f = sigma(u[1] + retain)    i = 1 - f        gated (prefrontal): i = i * gate, f = 1 - i
//   h_t = f_t h_{t-1} + i_t c_t
//   R=2: y = h     R=3: y = h silu(u[2])     R=4: y = h silu(u[2]) + u[3]     R=5: y = h silu(u[2]) + silu(u[3]) u[4]
//   pre_norm = y + residual
// The gate of output j is sigma(opener[j / stripe] + gate_bias[j / stripe]) of the same token.
//
// Views cover a range of column groups (synapses.h); [N, 32G] views are column ranges of wider tensors.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

// Views cover the whole opening module, not the range; empty opener: no gate.
struct Gate {
  TensorView opener;              // [N, O_opener]
  TensorView bias;                // [O_opener]
  std::int64_t stripe = 1;        // outputs per opener
  std::int64_t first_output = 0;  // first output of the range, in the gated module
};

struct MicrocircuitForward {
  TensorView currents;  // [G, N, 32R], 2 <= R <= 5
  TensorView retain;    // [32G]
  TensorView first;     // [N] i32 (documents.h)
  std::int64_t window = 0;
  Gate gate;
  TensorView residual;  // [N, 32G] or empty
  TensorView state;     // [N / window, 32G] or empty: h before the window instead of 0, replaced by h after it (streaming)
  TensorView pre_norm;  // out [N, 32G], on a GPU f32, or bf16 beside bf16
};

struct MicrocircuitBackward {
  TensorView currents, retain, first;  // as in the forward pass
  std::int64_t window = 0;
  Gate gate;
  TensorView residual;
  TensorView d_out, inverse_rms, dot, gain;  // [N, 32G], [N], [N], [32G]: of the norm that follows (rms_norm.h)
  TensorView hidden;                         // scratch [G, N, 32]
  TensorView d_currents;                     // out [G, N, 32R]
  TensorView d_retain, d_gain;               // [32G]: added to, window by window in order
  TensorView d_residual;                     // [N, 32G], added to; on a GPU bf16 beside bf16; empty without residual
  TensorView d_gate;                         // out [N, 32G], type as d_residual: gradient of the gate's value; empty without gate
};

// From the gates' values to their openers, for the whole module:
//   d = gate (1 - gate) * sum over a stripe of d_gate;  d_opener = d;  d_bias += sum over tokens of d
struct GateBackward {
  TensorView d_gate;  // [N, O], on a GPU bf16 beside bf16
  Gate gate;
  std::int64_t window = 0;  // d_bias is added to window by window in order
  TensorView d_opener;      // out [N, O_opener], type as d_gate
  TensorView d_bias;        // [O_opener]
  TensorView sums;          // scratch on a GPU: [N / window, O_opener] f32
};

void microcircuit_forward(CpuDevice& device, const MicrocircuitForward& arguments);
void microcircuit_backward(CpuDevice& device, const MicrocircuitBackward& arguments);
void gate_backward(CpuDevice& device, const GateBackward& arguments);
void microcircuit_forward(CudaDevice& device, const MicrocircuitForward& arguments);
void microcircuit_backward(CudaDevice& device, const MicrocircuitBackward& arguments);
void gate_backward(CudaDevice& device, const GateBackward& arguments);

}  // namespace neurogen

// The hippocampus: causal attention over a window, with heads of 64 outputs (two column groups), roles q k v g and, if R = 5, s.
//   q, k: rms-normalised per head (no gain), then rotary positions (Su et al. 2021, arXiv:2104.09864): position t counted
//   from the window's start, pair i turned by t 10000^(-2i/64): (a, b) -> (a cos - b sin, a sin + b cos), neighbours
//   R = 5: v = v * 2 sigma(s)
//   pre_norm = softmax_causal(q k^T / 8) v * sigma(g)      a token sees itself and back to its document's first token
// Neither a mask nor the window's whole score matrix is stored; the backward pass recomputes the scores.
//
// Views cover a range of heads (an even number of column groups). Currents have the compute type, in which a GPU multiplies, but
// f32 for single tokens.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

inline constexpr std::int64_t kHead = 64;  // outputs in a head

struct AttentionForward {
  TensorView currents;  // [G, N, 32R], R = 4 or 5
  TensorView first;     // [N] i32 (documents.h)
  std::int64_t window = 0;
  TensorView pre_norm;  // out [N, 32G], on a GPU f32, or bf16 beside bf16
  TensorView scratch;   // [threads, attention_scratch(window)]
};

struct AttentionBackward {
  TensorView currents, first;
  std::int64_t window = 0;
  TensorView d_out, inverse_rms, dot,
      gain;               // [N, 32G] f32, or bf16 beside bf16; [N], [N], [32G]: of the norm that follows (rms_norm.h)
  TensorView d_currents;  // out [G, N, 32R]
  TensorView d_gain;      // [32G]: added to, window by window in order
  TensorView scratch;     // as in the forward pass
  // Scratch on a GPU: q and d_mixed [N, 32G], of d_currents' type; notes [G, N] f32; sums [N / window, attention_tiles(window, type
  // of d_currents), 32G] f32.
  TensorView q{}, d_mixed{}, notes{}, sums{};
};

// One token of each of B streams, attending to a ring of the last `ring` keys and values.
struct AttentionStep {
  TensorView currents;      // [G, B, 32R]
  TensorView keys, values;  // [B, ring, 32G]: this token overwrites slot position % ring
  TensorView position;      // [1] i64: tokens before this one
  TensorView first;         // [1] i64: position of the current document's first token
  TensorView pre_norm;      // out [B, 32G], on a GPU also bf16
};

// Tokens that a GPU block takes, and tiles in a window. 16-bit operands need half the memory.
constexpr std::int64_t attention_tile(DType type) { return type == DType::f32 ? 32 : 128; }
constexpr std::int64_t attention_tiles(std::int64_t window, DType type) {
  return (window + attention_tile(type) - 1) / attention_tile(type);
}

std::int64_t attention_scratch(std::int64_t window);  // elements per thread, enough for the backward pass

void attention_forward(CpuDevice& device, const AttentionForward& arguments);
void attention_backward(CpuDevice& device, const AttentionBackward& arguments);
void attention_step(CpuDevice& device, const AttentionStep& arguments);
void attention_forward(CudaDevice& device, const AttentionForward& arguments);
void attention_backward(CudaDevice& device, const AttentionBackward& arguments);
void attention_step(CudaDevice& device, const AttentionStep& arguments);

}  // namespace neurogen

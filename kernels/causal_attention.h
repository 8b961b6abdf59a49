// Causal softmax attention with grouped keys and values (Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023,
// arXiv:2305.13245): H heads of queries share K heads of keys and values, H / K of them each; d is a head's width.
//   out_i = sum_j p_ij v_j    p_ij = exp(s_ij - log_sum_exp_i)    s_ij = q_i k_j / sqrt(d)
// j runs from the first token of i's document (documents.h) to i. Scores exist a tile at a time, with a running maximum (Milakov &
// Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135): neither a mask nor the window's score matrix is stored.
//
// Backward, with dot_i = d_out_i out_i:
//   d_v_j = sum_i p_ij d_out_i    d_s_ij = p_ij (d_out_i v_j - dot_i)    d_q_i = sum_j d_s_ij k_j / sqrt(d)    d_k_j likewise
//
// q, k and v may be columns of one tensor, d_q, d_k and d_v too.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

// Head h of the queries reads head h K / H of the keys. On a GPU d is a multiple of 16 up to 128, on a CPU any number.
struct HeadCounts {
  std::int64_t queries = 0, keys = 0;  // H, K; K divides H
};

// On a GPU q, k, v, out and their gradients have the type of products, the statistics f32; on a CPU all types are equal.
struct CausalAttentionForward {
  HeadCounts heads;
  TensorView q;             // [N, H d]
  TensorView k, v;          // [N, K d]
  TensorView first;         // [N] i32 (documents.h)
  std::int64_t window = 0;  // T, N = B T
  TensorView out;           // out [N, H d]
  TensorView log_sum_exp;   // out [H, N]; empty: nobody reads it
  TensorView scratch;       // [threads, causal_attention_scratch(T)]; not for a GPU
};

struct CausalAttentionBackward {
  HeadCounts heads;
  TensorView q, k, v, first;
  std::int64_t window = 0;
  TensorView out, log_sum_exp;  // of the forward pass
  TensorView d_out;             // [N, H d]
  TensorView d_q, d_k, d_v;     // out, of the shapes of q, k, v
  TensorView dot;               // scratch [H, N], of the statistics' type
  TensorView scratch;           // as in the forward pass
};

// One token of each of B streams. `ring` keys and values are kept; this token's overwrite slot position % ring.
struct CausalAttentionStep {
  HeadCounts heads;
  TensorView q;             // [B, H d]
  TensorView k, v;          // [B, K d]
  TensorView keys, values;  // [B, ring, K d] updated
  TensorView position;      // [1] i64: tokens before this one
  TensorView first;         // [1] i64: position of the current document's first token
  TensorView out;           // out [B, H d]
  TensorView parts;         // scratch [B, H, kStepParts, d + 2] f32: of parts of the ring, on a GPU alone
};

inline constexpr std::int64_t kStepParts = 32;

std::int64_t causal_attention_scratch(std::int64_t window);  // elements per thread, enough for both passes

void causal_attention_forward(CpuDevice& device, const CausalAttentionForward& arguments);
void causal_attention_backward(CpuDevice& device, const CausalAttentionBackward& arguments);
void causal_attention_step(CpuDevice& device, const CausalAttentionStep& arguments);
void causal_attention_forward(CudaDevice& device, const CausalAttentionForward& arguments);
void causal_attention_backward(CudaDevice& device, const CausalAttentionBackward& arguments);
void causal_attention_step(CudaDevice& device, const CausalAttentionStep& arguments);

}  // namespace neurogen

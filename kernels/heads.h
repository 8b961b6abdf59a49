// From the products of queries, keys and values to what attention takes, in place. Of each head of queries and keys, in this order:
//   x + bias
//   x inverse, inverse = 1 / sqrt(mean(x^2) + epsilon)     queries and keys normed (Henry et al. 2020, arXiv:2010.04245), no gain
//   rotary positions (Su et al. 2021, arXiv:2104.09864), pairs (i, i + d/2) as in Hugging Face's Llama, the token at position t of
//   its window turned by a = t theta^(-2i/d):  (x_i, x_j) -> (x_i cos a - x_j sin a, x_j cos a + x_i sin a)
// Values only get their bias. Each part may be absent.
//
// Backward, in place: the gradient is turned back; then d_x = inverse (d - x^ mean(d x^)), for which the results of the forward
// pass suffice: both factors of the mean are turned alike.
#pragma once
#include "kernels/base/row_parts.h"
#include "kernels/causal_attention.h"

namespace neurogen {

struct RotaryTable {
  double theta = 10000;
  TensorView position;  // [1] i64: of the first row; empty: 0
  TensorView table;     // out [T, d]: of positions in turn, the cosines of the d/2 angles, then the sines
};

// On a GPU qkv and d_qkv have the type of products, the rest is f32; d is a multiple of 16. On a CPU all types are equal, d is
// even.
struct HeadsForward {
  HeadCounts heads;
  TensorView query_bias, key_bias, value_bias;  // [H d], [K d], [K d], or all empty
  TensorView table;                             // [T, d], row n % T for token n; empty: no rotation
  double epsilon = 1e-5;                        // of the norm
  TensorView inverse;                           // out [N, H + K]; empty: no norm
  TensorView qkv;                               // [N, (H + 2K) d] updated: queries, keys, values
};

struct HeadsBackward {
  HeadCounts heads;
  TensorView table, inverse;                          // as in the forward pass
  TensorView qkv;                                     // [N, (H + 2K) d], of the forward pass
  TensorView d_qkv;                                   // [N, (H + 2K) d] updated
  TensorView d_query_bias, d_key_bias, d_value_bias;  // out, of the shapes of the biases, or all empty
  TensorView sums;                                    // scratch [row_parts(N), (H + 2K) d], of the biases' type; empty without them
};

void rotary_table(CpuDevice& device, const RotaryTable& arguments);
void heads_forward(CpuDevice& device, const HeadsForward& arguments);
void heads_backward(CpuDevice& device, const HeadsBackward& arguments);
void rotary_table(CudaDevice& device, const RotaryTable& arguments);
void heads_forward(CudaDevice& device, const HeadsForward& arguments);
void heads_backward(CudaDevice& device, const HeadsBackward& arguments);

}  // namespace neurogen

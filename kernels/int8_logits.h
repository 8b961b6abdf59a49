// Logits of a decoder by products of factors that are rounded to 8-bit whole numbers with a scale for each row, for which GPUs have
// twice the rate of 16 bits, and the statistics of their softmax (cross_entropy.h):
//   s(row) = max |row| / 127    x8 = round(x / s(x))    w8 = round(w / s(w))    logits = s(x) s(w) (x8 w8^T)
// Sums of the products are whole numbers, exact. With rows of normally distributed elements the rounding errors are about 1.3 % of
// a logit's standard deviation, whatever the number of features. A row that is not finite makes its logits not finite.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

struct Int8Logits {
  TensorView features, decoder;           // [N, k], [V, k]; on a GPU bf16 or f16
  TensorView logits;                      // out [N, V] z of their type, rows may be strided
  TensorView targets;                     // [N] i32
  TensorView maximum, sum, target_logit;  // out [N] as SoftmaxStatistics has them after the last tile
  // Scratch; as many rows of the decoder as weights8 has are multiplied at a time.
  TensorView features8, features_scale;          // [N, k] u8, [N] f32
  TensorView weights8, weights_scale, products;  // [rows, k] u8, [rows] f32, [N, rows] i32
  TensorView workspace;                          // [bytes] u8 for a GPU's matrix library; may be empty
  double softcap = 0;
};

// On a GPU k, V and `rows` are multiples of 16, and rows of all begin at multiples of 16 bytes.
void int8_logits(CpuDevice& device, const Int8Logits& arguments);
void int8_logits(CudaDevice& device, const Int8Logits& arguments);

}  // namespace neurogen

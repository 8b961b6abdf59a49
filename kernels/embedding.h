// Token embedding with root-mean-square norm: out = rms(weight[id]) * gain.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/device.h"

namespace neurogen {

struct EmbeddingForward {
  TensorView ids;          // [N] i32, each in [0, V)
  TensorView weight;       // [V, E]
  TensorView gain;         // [E]
  TensorView out;          // out [N, E]
  TensorView inverse_rms;  // out [N]: 1 / sqrt(mean(row^2) + 1e-5)
};

// The batch's tokens sorted by id, so that one thread works on each touched row of the embedding, in a fixed order. At most U =
// min(N, V) rows are touched.
struct EmbeddingRows {
  TensorView ids;  // [N] i32
  std::int64_t vocabulary = 0;
  TensorView histogram;  // scratch [V] i32; not for a GPU
  TensorView rows;       // out [U] i32: the touched ids, ascending; the first `count` are valid
  TensorView row_start;  // out [U + 1] i32: tokens order[row_start[i] ... row_start[i+1]) touch rows[i]
  TensorView order;      // out [N] i32: token positions, grouped by id, ascending within an id
  TensorView count;      // out [1] i32
};

struct EmbeddingBackward {
  TensorView d_out;                          // [N, E]
  TensorView weight, gain, inverse_rms;      // as in the forward pass
  TensorView rows, row_start, order, count;  // from EmbeddingRows
  TensorView d_rows;                         // out [U, E]: gradient of weight[rows[i]]; only the first `count` rows are written
  TensorView d_gain;                         // out [E]
};

void embedding_forward(CpuDevice& device, const EmbeddingForward& arguments);
void embedding_rows(CpuDevice& device, const EmbeddingRows& arguments);
void embedding_backward(CpuDevice& device, const EmbeddingBackward& arguments);
void embedding_forward(CudaDevice& device, const EmbeddingForward& arguments);
void embedding_rows(CudaDevice& device, const EmbeddingRows& arguments);
void embedding_backward(CudaDevice& device, const EmbeddingBackward& arguments);

}  // namespace neurogen

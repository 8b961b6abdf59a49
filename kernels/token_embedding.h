// Where a transformer's residual stream begins: x = weight[id] + positions[place], with a norm without gain if it is asked for:
//   out = x inverse, inverse = 1 / sqrt(mean(x^2) + epsilon)
// A token's place is counted from the first of its document.
//
// Backward through the norm: d_x = inverse (d - out mean(d out)). touched_rows and row_gradients (embedding.h) sum it by the rows
// of both tables.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

// In whole windows: t - first, at position t of a window. For tokens of streams: position[0] - position[1], at most `most`.
struct TokenPlaces {
  TensorView first;         // [N] i32 (documents.h), or empty
  std::int64_t window = 0;  // T
  TensorView position;      // [2] i64: tokens so far, position of the document's first; or empty
  std::int64_t most = 0;
  TensorView places;  // out [N] i32
};

// On a GPU out and d_out are f32 or bf16, the rest is f32, D a multiple of 8; on a CPU all types are equal. But the tables may both
// be bf16 or f16.
struct TokenEmbeddingForward {
  TensorView ids;        // [N] i32, each in [0, V)
  TensorView weight;     // [V, D]
  TensorView places;     // [N] i32; empty without learned positions
  TensorView positions;  // [context, D]; likewise
  double epsilon = 1e-5;
  TensorView out;      // out [N, D]
  TensorView inverse;  // out [N]; empty: no norm
};

struct TokenEmbeddingBackward {
  TensorView out, inverse;  // of the forward pass
  TensorView d_out;         // [N, D] in: gradient of out; out: of x, in place
};

void token_places(CpuDevice& device, const TokenPlaces& arguments);
void token_embedding_forward(CpuDevice& device, const TokenEmbeddingForward& arguments);
void token_embedding_backward(CpuDevice& device, const TokenEmbeddingBackward& arguments);
void token_places(CudaDevice& device, const TokenPlaces& arguments);
void token_embedding_forward(CudaDevice& device, const TokenEmbeddingForward& arguments);
void token_embedding_backward(CudaDevice& device, const TokenEmbeddingBackward& arguments);

}  // namespace neurogen

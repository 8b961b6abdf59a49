// Token embedding with root-mean-square norm: x = weight[id] + 0.25 pairs[pair row], out = rms(x) * gain; without a pair table x is
// weight[id].
//
// A row of the pair table belongs to a token and the one before it, by the hashing trick (Weinberger et al. 2009, arXiv:0902.2206):
//   pair row = (1000003 id + 998244353 before) mod P, in 64 bits; before = 0 at the first token of a window and of a document
// so that the first module already tells a token by its context. Pairs that share a row do not tell.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

inline constexpr double kPairScale = 0.25;

struct PairRows {
  TensorView ids;           // [N] i32
  TensorView first;         // [N] i32 (documents.h); not for a stream
  std::int64_t window = 0;  // T
  std::int64_t pairs = 0;   // P
  TensorView last;          // [1] i32, for a stream of single tokens: the token before, then this one; empty: whole windows
  TensorView rows;          // out [N] i32, each in [0, P)
};

// Of tokens [N] in tables [V, E] and [P, E]; the last two are empty without a pair table.
struct EmbeddingRows {
  TensorView ids;     // [N] i32, each in [0, V)
  TensorView weight;  // [V, E]
  TensorView pair_rows;
  TensorView pairs;
};

struct EmbeddingForward {
  EmbeddingRows rows;
  TensorView gain;         // [E]
  TensorView out;          // out [N, E]
  TensorView inverse_rms;  // out [N]: 1 / sqrt(mean(x^2) + 1e-5)
};

// Back through the norm.
struct EmbeddingBackward {
  EmbeddingRows rows;
  TensorView gain, inverse_rms;  // as in the forward pass
  TensorView d_out;              // [N, E], in: gradient of out; out: of x, in place
  TensorView d_gain;             // out [E]
};

// The rows of a table that a batch touches, and the tokens of each, so that one thread works on each row, in a fixed order. At most
// U = min(N, rows of the table) are touched.
struct TouchedRows {
  TensorView ids;               // [N] i32: each token's row
  std::int64_t table_rows = 0;  // on a GPU at most 250,000
  TensorView histogram;         // scratch [table rows] i32; not for a GPU
  TensorView rows;              // out [U] i32: the touched rows, ascending; the first `count` are valid
  TensorView row_start;         // out [U + 1] i32: tokens order[row_start[i] ... row_start[i+1]) touch rows[i]
  TensorView order;             // out [N] i32: tokens, grouped by row, ascending within a row
  TensorView count;             // out [1] i32
};

// d_rows[i] = scale * sum of d_x over the tokens of rows[i]; or, for the gradient of a whole table, d_rows[rows[i]] += that sum,
// scale 1
struct RowGradients {
  TensorView d_x;                      // [N, E]
  TensorView row_start, order, count;  // from TouchedRows
  double scale = 1;
  TensorView d_rows;  // out [U, E]: gradient of the table's rows[i]; only the first `count` are written
  TensorView rows{};  // [U] i32, or empty: adds to d_rows [rows of the table, E] instead
};

void pair_rows(CpuDevice& device, const PairRows& arguments);
void embedding_forward(CpuDevice& device, const EmbeddingForward& arguments);
void embedding_backward(CpuDevice& device, const EmbeddingBackward& arguments);
void touched_rows(CpuDevice& device, const TouchedRows& arguments);
void row_gradients(CpuDevice& device, const RowGradients& arguments);
void pair_rows(CudaDevice& device, const PairRows& arguments);
void embedding_forward(CudaDevice& device, const EmbeddingForward& arguments);
void embedding_backward(CudaDevice& device, const EmbeddingBackward& arguments);
void touched_rows(CudaDevice& device, const TouchedRows& arguments);
void row_gradients(CudaDevice& device, const RowGradients& arguments);

}  // namespace neurogen

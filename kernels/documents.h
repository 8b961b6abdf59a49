// Finds where documents begin inside a window: recurrence and attention do not look across a document's end.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

struct Documents {
  TensorView ids;                  // [N] i32, N = B * window
  std::int64_t window = 0;         // T
  std::int64_t document_end = -1;  // the token that ends a document, so that the next token starts from scratch; -1: no such token
  TensorView first;                // out [N] i32: index within the window, 0 ... T-1, of the first token of this token's document
};

void documents(CpuDevice& device, const Documents& arguments);
void documents(CudaDevice& device, const Documents& arguments);

}  // namespace neurogen

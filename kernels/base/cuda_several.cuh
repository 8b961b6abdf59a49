// One launch for several tensors: each is cut into pieces of equal length, and every block takes one.
#pragma once
#include "kernels/base/cuda_kernel.cuh"
#include "kernels/base/several.h"

namespace neurogen {

// Passed as a kernel's argument.
template <typename Item>
struct PieceTable {
  Item items[kMostSeveral];
  unsigned first[kMostSeveral];  // each item's first block
  int count = 0;
  unsigned blocks = 0;

  void add(const Item& item, unsigned pieces) {
    items[count] = item;
    first[count++] = blocks;
    blocks += pieces;
  }

  // This block's item, and the index of its piece.
  struct Piece {
    Item item;
    std::int64_t number;
  };
  __device__ Piece mine() const {
    int i = 0;
    for (int k = 1; k < count; ++k) i += first[k] <= blockIdx.x;
    return {items[i], static_cast<std::int64_t>(blockIdx.x - first[i])};
  }
};

}  // namespace neurogen

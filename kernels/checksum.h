// Checksums of tensors' bytes, equal on every device, by which ranks compare what they hold. With the bytes as little-endian 64-bit
// words w_i, the last one filled with zeros, and the finalizer m of SplitMix64 (Steele, Lea & Flood 2014), all mod 2^64:
//   sum over i of m(w_i + (i + 1) 0x9E3779B97F4A7C15)
// m is one-to-one, so one word that differs changes the sum. Additions may come in any order.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/both.h"
#include "kernels/base/device.h"
#include "kernels/base/several.h"

namespace neurogen {

struct Checksum {
  Several<TensorView> tensors;  // of any type; contiguous, aligned to 8 bytes
  TensorView sums;              // out [tensors] i64
};

NEUROGEN_BOTH inline std::uint64_t checksum_of_word(std::uint64_t word, std::uint64_t i) {
  std::uint64_t z = word + (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

// The last word of `bytes` bytes, which is not whole.
NEUROGEN_BOTH inline std::uint64_t checksum_rest(const unsigned char* data, std::int64_t bytes) {
  std::uint64_t word = 0;
  for (std::int64_t b = bytes / 8 * 8; b < bytes; ++b) word |= std::uint64_t{data[b]} << 8 * (b % 8);
  return word;
}

void checksum(CpuDevice& device, const Checksum& arguments);
void checksum(CudaDevice& device, const Checksum& arguments);

}  // namespace neurogen

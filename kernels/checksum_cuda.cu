#include "kernels/base/cuda_several.cuh"
#include "kernels/checksum.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPiece = 32 * kThreads;  // words that a block takes

struct Words {
  const unsigned char* data;
  std::int64_t bytes;
  unsigned long long* sum;
};

// Additions of whole numbers may come in any order.
__global__ void add_checksums(PieceTable<Words> tensors) {
  const auto [x, piece] = tensors.mine();
  const auto* const words = reinterpret_cast<const std::uint64_t*>(x.data);
  const std::int64_t all = x.bytes / 8, end = min(all, (piece + 1) * kPiece);
  unsigned long long sum = 0;
  for (std::int64_t i = piece * kPiece + threadIdx.x; i < end; i += kThreads)
    sum += checksum_of_word(words[i], static_cast<std::uint64_t>(i));
  if (piece == 0 && threadIdx.x == 0 && x.bytes % 8 != 0)
    sum += checksum_of_word(checksum_rest(x.data, x.bytes), static_cast<std::uint64_t>(all));
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) atomicAdd(x.sum, sum);
}

}  // namespace

void checksum(CudaDevice& device, const Checksum& a) {
  PieceTable<Words> tensors;
  auto* sum = a.sums.as<unsigned long long>();
  require_cuda(cudaMemsetAsync(sum, 0, static_cast<std::size_t>(a.sums.elements()) * sizeof *sum, stream_of(device)), "checksum");
  for (const TensorView& x : a.tensors) {
    require_operands(x.contiguous(), "checksum: tensors must be contiguous");
    const std::int64_t bytes = x.elements() * static_cast<std::int64_t>(size_of(x.dtype));
    tensors.add({x.as<const unsigned char>(), bytes, sum++}, std::max(1u, pieces(bytes / 8, kPiece)));
  }
  launch(device, "checksum", add_checksums, dim3(tensors.blocks), dim3(kThreads), 0, tensors);
}

}  // namespace neurogen

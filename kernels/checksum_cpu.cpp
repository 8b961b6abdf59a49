#include <atomic>

#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/checksum.h"

namespace neurogen {
namespace {

constexpr std::int64_t kWords = 1 << 16;  // that one thread takes at a time

NEUROGEN_CLONES std::uint64_t sum_of_words(const std::uint64_t* words, std::int64_t begin, std::int64_t end) {
  std::uint64_t sum = 0;
  for (std::int64_t i = begin; i < end; ++i) sum += checksum_of_word(words[i], static_cast<std::uint64_t>(i));
  return sum;
}

}  // namespace

void checksum(CpuDevice& device, const Checksum& a) {
  std::int64_t* to = a.sums.as<std::int64_t>();
  for (const TensorView& x : a.tensors) {
    require(x.contiguous(), "checksum: tensors must be contiguous");
    const std::int64_t bytes = x.elements() * static_cast<std::int64_t>(size_of(x.dtype)), words = bytes / 8;
    std::atomic<std::uint64_t> sum{0};
    if (bytes % 8 != 0) sum = checksum_of_word(checksum_rest(x.as<unsigned char>(), bytes), static_cast<std::uint64_t>(words));
    parallel_pieces(device, words, kWords, [&](std::int64_t begin, std::int64_t end, int) {
      sum.fetch_add(sum_of_words(x.as<const std::uint64_t>(), begin, end), std::memory_order_relaxed);
    });
    *to++ = static_cast<std::int64_t>(sum.load());
  }
}

}  // namespace neurogen

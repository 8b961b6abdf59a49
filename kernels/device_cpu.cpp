#include <vector>

#include "arena/error.h"
#include "kernels/base/device.h"
#include "kernels/base/openblas.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

// Runs a small and a large product, which the library computes differently, so that both are set up.
template <typename Real>
void touch_products() {
  for (const std::int64_t n : {4, 256}) {
    const std::vector<Real> a(static_cast<std::size_t>(n * n), Real(1));
    std::vector<Real> c(a.size());
    matmul_serial<Real>(Transpose::no, Transpose::no, n, n, n, a.data(), n, a.data(), n, Real(0), c.data(), n);
  }
}

void touch_matrix_library() {
  touch_products<float>();
  touch_products<double>();
}

int with_openblas(int threads) {
  if (threads < 0) throw Error("the number of threads is negative: give 0 for one per core, or a positive number");
  if (threads == 0) threads = cores_of_this_process();
  reserve_openblas_buffers(threads);
  return threads;
}

}  // namespace

CpuDevice::CpuDevice(int threads) : ThreadPool(with_openblas(threads), touch_matrix_library) {}

}  // namespace neurogen

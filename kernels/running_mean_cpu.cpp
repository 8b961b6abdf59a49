#include <algorithm>

#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/running_mean.h"

namespace neurogen {
namespace {

constexpr std::int64_t kElements = 16384, kRows = 8;  // that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES void scale(Real keep, Real* mean, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) mean[i] *= keep;
}

template <typename Real>
NEUROGEN_CLONES void add(Real share, const Real* value, Real* mean, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) mean[i] += share * value[i];
}

// Keeps a share of what is there, all or nothing included.
template <typename Real>
void keep_share(Real keep, Real* mean, std::int64_t n) {
  if (keep == 0) std::fill_n(mean, n, Real{0});
  else scale<Real>(keep, mean, n);
}

}  // namespace

void running_mean_share(CpuDevice&, const RunningMeanShare& a) {
  const double count = a.total.as<const double>()[1];
  double& counted = *a.counted.as<double>();
  counted += count;
  *a.share.as<double>() = counted > 0 ? count / counted : 1;
}

void running_mean(CpuDevice& device, const RunningMean& a) {
  require_type("running_mean", a.mean.dtype, {a.value});
  const double share = *a.share.as<const double>();
  if (share == 0) return;
  dispatch_real(a.mean.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const auto part = static_cast<Real>(share), keep = static_cast<Real>(1 - share);
    const Real* const value = a.value.as<const Real>();
    Real* const mean = a.mean.as<Real>();
    parallel_pieces(device, a.mean.elements(), kElements, [&](std::int64_t begin, std::int64_t end, int) {
      keep_share<Real>(keep, mean + begin, end - begin);
      if (!a.rows) add<Real>(part, value + begin, mean + begin, end - begin);
    });
    if (!a.rows) return;
    const std::int64_t width = a.mean[1];
    parallel_pieces(device, *a.count.as<const std::int32_t>(), kRows, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i)
        add<Real>(part, value + i * width, mean + a.rows.as<const std::int32_t>()[i] * width, width);
    });
  });
}

}  // namespace neurogen

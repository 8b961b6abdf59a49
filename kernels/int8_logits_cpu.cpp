#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/base/dispatch.h"
#include "kernels/cross_entropy.h"
#include "kernels/int8_logits.h"

namespace neurogen {
namespace {

// The steps of a GPU, in float32 whatever the type, so that both round alike.
template <typename Real>
void round_row(const Real* from, std::int64_t width, std::int8_t* to, float& scale) {
  std::uint32_t largest = 0;  // as bits, of which those of NaN are the largest
  for (std::int64_t l = 0; l < width; ++l)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(std::abs(static_cast<float>(from[l]))));
  const float most = std::bit_cast<float>(largest), inverse = most > 0 ? 127 / most : 0;
  for (std::int64_t l = 0; l < width; ++l) {
    const float scaled = std::nearbyint(static_cast<float>(from[l]) * inverse);
    to[l] = static_cast<std::int8_t>(std::isfinite(scaled) ? scaled : 0);
  }
  scale = most / 127;
}

template <typename Real>
void round_rows(CpuDevice& device, const TensorView& from, const TensorView& to, const TensorView& scale) {
  device.parallel(from[0], [&](std::int64_t i, int) {
    round_row(from.as<const Real>() + i * from.row_stride, from[1], to.as<std::int8_t>() + i * from[1], scale.as<float>()[i]);
  });
}

}  // namespace

void int8_logits(CpuDevice& device, const Int8Logits& p) {
  require_type("int8_logits", p.logits.dtype, {p.features, p.decoder});
  const std::int64_t n = p.logits[1], k = p.features[1], rows = p.weights8[0];
  dispatch_real(p.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    round_rows<Real>(device, p.features, p.features8, p.features_scale);
    for (std::int64_t begin = 0; begin < n; begin += rows) {
      const std::int64_t count = std::min(rows, n - begin);
      round_rows<Real>(device, p.decoder.rows(begin, count), p.weights8, p.weights_scale);
      device.parallel(p.logits[0], [&](std::int64_t i, int) {
        const std::int8_t* x = p.features8.as<const std::int8_t>() + i * k;
        for (std::int64_t j = 0; j < count; ++j) {
          const std::int8_t* w = p.weights8.as<const std::int8_t>() + j * k;
          std::int64_t sum = 0;
          for (std::int64_t l = 0; l < k; ++l) sum += x[l] * w[l];
          const float scale = p.features_scale.as<const float>()[i] * p.weights_scale.as<const float>()[j];
          p.logits.as<Real>()[i * p.logits.row_stride + begin + j] = static_cast<Real>(scale) * static_cast<Real>(sum);
        }
      });
    }
  });
  softmax_statistics(device, {p.logits, p.targets, 0, p.maximum, p.sum, p.target_logit, p.softcap});
}

}  // namespace neurogen

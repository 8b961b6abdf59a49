// Moments in 8 bits (Dettmers et al. 2022, arXiv:2110.02861): kMomentBlock neighbours share a scale, their largest magnitude, and
// each is a power of a whole number q, so that small ones keep their digits:
//   m = scale sign(q) (q / 127)^2, q from -127 to 127, stored as q + 128      v = scale (q / 255)^4, q from 0 to 255
// A code is rounded up or down at random, in proportion to the distances of the values: a moving average changes by 2 % or 10 % of
// the difference at a time, less than a code, and would stand still if it was rounded to the nearest.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/base/both.h"

namespace neurogen {

inline constexpr std::int64_t kMomentBlock = 256;

// What a code stands for, as a share of the scale.
template <typename Real>
NEUROGEN_BOTH inline Real share_of_m(std::uint8_t code) {
  const int q = code - 128;
  return static_cast<Real>(q < 0 ? -q * q : q * q) * static_cast<Real>(1.0 / (127 * 127));
}
template <typename Real>
NEUROGEN_BOTH inline Real share_of_v(std::uint8_t code) {
  const Real square = static_cast<Real>(code * code) * static_cast<Real>(1.0 / (255 * 255));
  return square * square;
}

// 1 / scale; 0 for a scale so small that it counts as none.
template <typename Real>
NEUROGEN_BOTH inline Real by_scale(Real scale) {
  return scale > static_cast<Real>(1e-37) ? 1 / scale : 0;
}

// The code of a share in [-1, 1], or [0, 1]. `random` is below 2^8. One that is not a number becomes the largest code.
template <typename Real>
NEUROGEN_BOTH inline std::uint8_t code_of_m(Real share, std::uint32_t random) {
  const Real most = 127 * 127, t = (share < 0 ? -share : share) * most;
  int q = t < most ? static_cast<int>(std::sqrt(t)) : 127;
  q += (t - static_cast<Real>(q * q)) * 256 > static_cast<Real>(2 * q + 1) * (static_cast<Real>(random) + static_cast<Real>(0.5));
  return static_cast<std::uint8_t>(share < 0 ? 128 - q : 128 + q);
}
// That of v is at least 1 unless v is 0: an update must not divide by the square root of 0.
template <typename Real>
NEUROGEN_BOTH inline std::uint8_t code_of_v(Real share, std::uint32_t random) {
  const Real most = static_cast<Real>(255.0 * 255 * 255 * 255), t = share * most;
  int q = share < 1 ? static_cast<int>(std::sqrt(std::sqrt(t))) : 255;
  const Real below = static_cast<Real>(q * q) * static_cast<Real>(q * q),
             above = static_cast<Real>((q + 1) * (q + 1)) * static_cast<Real>((q + 1) * (q + 1));
  q += q < 255 && (t - below) * 256 > (above - below) * (static_cast<Real>(random) + static_cast<Real>(0.5));
  return static_cast<std::uint8_t>(q == 0 && t > 0 ? 1 : q);
}

}  // namespace neurogen

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/base/dispatch.h"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRows = 8;  // rows that one thread takes at a time

StepControl& control_of(const TensorView& view) { return *view.as<StepControl>(); }

}  // namespace

void loss_scale_begin(CpuDevice&, const LossScaleBegin& a) {
  const LossScaleState& state = *a.state.as<const LossScaleState>();
  StepControl& control = control_of(a.control);
  control.overflow = 0;
  control.loss_scale = std::ldexp(1.0f, kFirstLossScale + state.doublings);
  control.decoder_skips = state.decoder_skips;
  control.trunk_skips = state.trunk_skips;
}

void loss_scale_decoder(CpuDevice& device, const LossScaleDecoder& a) {
  const double* const total = a.total.as<const double>();
  std::atomic<bool> overflow{logits_overflow(total[0], total[1], control_of(a.control).loss_scale)};
  if (a.d_features) {
    dispatch_real(a.d_features.dtype, [&](auto zero) {
      using Real = decltype(zero);
      parallel_pieces(device, a.d_features[0], kRows, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t n = begin; n < end; ++n) {
          const Real* const row = a.d_features.as<const Real>() + n * a.d_features.row_stride;
          if (!std::all_of(row, row + a.d_features[1], [](Real x) { return std::isfinite(x); })) overflow = true;
        }
      });
    });
  }
  if (overflow) control_of(a.control).overflow = kDecoderOverflow | kTrunkOverflow;
}

void loss_scale_end(CpuDevice&, const LossScaleEnd& a) {
  StepControl& control = control_of(a.control);
  dispatch_real(a.norm.dtype, [&](auto zero) {
    if (!std::isfinite(a.norm.as<const decltype(zero)>()[0])) control.overflow |= kTrunkOverflow;
  });
  if (!a.state) return;
  LossScaleState& state = *a.state.as<LossScaleState>();
  state = after_step(state, control.overflow);
}

}  // namespace neurogen

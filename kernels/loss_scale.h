// Loss scaling for 16-bit floats (Micikevicius et al. 2018, arXiv:1710.03740): all gradients are multiplied by `scale`, so that
// small ones do not vanish; if one overflows, the update is skipped and the scale halved. After kLossScaleInterval steps without an
// overflow it doubles. It is a power of two, so scaling rounds nothing.
//
// The decoder is updated before the trunk's gradients are known, so there are two domains: an overflow in the gradient of the
// logits or of the features skips both updates, a later one only the trunk's.
#pragma once
#include <cstdint>

#include "arena/tensor_view.h"
#include "kernels/base/both.h"
#include "kernels/base/device.h"
#include "kernels/base/step_control.h"

namespace neurogen {

inline constexpr std::int32_t kDecoderOverflow = 1, kTrunkOverflow = 2;               // bits of StepControl::overflow
inline constexpr int kFirstLossScale = 16, kLeastLossScale = 0, kMostLossScale = 24;  // powers of two
inline constexpr int kLossScaleInterval = 2000;
inline constexpr float kLargestHalf = 65504;
inline constexpr char kLossScaleName[] = "loss_scale";  // the state's name among the persistent tensors

// State that is kept from step to step; all zero before the first.
struct LossScaleState {
  std::int32_t doublings;                   // scale = 2^(kFirstLossScale + doublings)
  std::int32_t clean;                       // steps since an overflow or a change
  std::int32_t decoder_skips, trunk_skips;  // updates skipped so far
};

// Returns the state after a step.
NEUROGEN_BOTH inline LossScaleState after_step(LossScaleState s, std::int32_t overflow) {
  s.decoder_skips += (overflow & kDecoderOverflow) != 0;
  s.trunk_skips += (overflow & kTrunkOverflow) != 0;
  const bool grown = overflow == 0 && s.clean + 1 == kLossScaleInterval;
  if (overflow != 0 && s.doublings > kLeastLossScale - kFirstLossScale) --s.doublings;
  if (grown && s.doublings < kMostLossScale - kFirstLossScale) ++s.doublings;
  s.clean = overflow != 0 || grown ? 0 : s.clean + 1;
  return s;
}

// Runs before the first gradient: copies the scale from `state` and clears `overflow`.
struct LossScaleBegin {
  TensorView state;    // LossScaleState, as [4] i32
  TensorView control;  // StepControl, updated
};

// Runs before the decoder's first update. A logit's gradient is at most scale / counted tokens, and finite if the loss is; the
// gradient of broca's outputs is a sum in f32, which can overflow only when it is rounded to 16 bits. Of several micro-batches in a
// step, each sets the bits, so that an overflow in any of them counts.
struct LossScaleDecoder {
  TensorView total;       // [2] f64: sum of losses, counted tokens (cross_entropy.h)
  TensorView d_features;  // [N, O], or empty if it is not rounded
  TensorView control;     // StepControl: overflow is set
};
NEUROGEN_BOTH inline bool logits_overflow(double loss, double counted, float scale) {
  return !(loss - loss == 0) || (counted > 0 && static_cast<double>(scale) > static_cast<double>(kLargestHalf) * counted);
}

// Runs before the trunk's first update: detects overflow in the gradients' norm and computes the next step's state.
struct LossScaleEnd {
  TensorView norm;     // [2]: norm, clip factor (gradient_norm.h)
  TensorView control;  // StepControl: overflow is set
  TensorView state;    // updated; empty: the norm is that of some gradients, and others follow
};

void loss_scale_begin(CpuDevice& device, const LossScaleBegin& arguments);
void loss_scale_decoder(CpuDevice& device, const LossScaleDecoder& arguments);
void loss_scale_end(CpuDevice& device, const LossScaleEnd& arguments);
void loss_scale_begin(CudaDevice& device, const LossScaleBegin& arguments);
void loss_scale_decoder(CudaDevice& device, const LossScaleDecoder& arguments);
void loss_scale_end(CudaDevice& device, const LossScaleEnd& arguments);

}  // namespace neurogen

// The scalars of one training step. They lie in device memory, so that a captured step reads new values without being
// captured again.
#pragma once
#include <cstdint>

#include "arena/tensor_view.h"

namespace neurogen {

struct StepControl {
  std::int64_t step = 0;                                                            // from 0
  float learning_rate = 0, embedding_learning_rate = 0, decoder_learning_rate = 0;  // of this step, schedule included
  // What only the device knows (loss_scale.h); as the host gives it, nothing is scaled and no step was skipped.
  std::int32_t overflow = 0;                        // of this step: kDecoderOverflow, kBrainOverflow
  float loss_scale = 1;                             // gradients are so many times too large until they are used
  std::int32_t decoder_skips = 0, brain_skips = 0;  // steps before this one that updated nothing
  std::int32_t padding = 0;
};

inline const StepControl& step_control(const TensorView& view) { return *view.as<const StepControl>(); }

}  // namespace neurogen

// The scalars of one training step, in device memory, so that a captured step reads new values without being captured again.
#pragma once
#include <cstdint>

#include "arena/tensor_view.h"

namespace neurogen {

struct StepControl {
  std::int64_t step = 0;                                                                                   // from 0
  float learning_rate = 0, table_learning_rate = 0, decoder_learning_rate = 0, synapse_learning_rate = 0;  // schedule included
  // Values that only the device knows (loss_scale.h); the host passes the defaults: no scaling, no skipped step.
  std::int32_t overflow = 0;                        // bits for this step: kDecoderOverflow, kTrunkOverflow
  float loss_scale = 1;                             // gradients are multiplied by this until they are used
  std::int32_t decoder_skips = 0, trunk_skips = 0;  // earlier steps that updated nothing
};

inline const StepControl& step_control(const TensorView& view) { return *view.as<const StepControl>(); }

}  // namespace neurogen

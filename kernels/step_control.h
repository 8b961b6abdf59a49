// The scalars of one training step. They lie in device memory, so that a captured step reads new values without being
// captured again.
#pragma once
#include <cstdint>

#include "arena/tensor_view.h"

namespace neurogen {

struct StepControl {
  std::int64_t step = 0;  // from 0
  float learning_rate = 0, embedding_learning_rate = 0, decoder_learning_rate = 0;  // of this step, schedule included
  float padding = 0;
};

inline const StepControl& step_control(const TensorView& view) { return *view.as<const StepControl>(); }

}  // namespace neurogen

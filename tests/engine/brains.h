// Brains by their shapes, for tests: the engine's functions take architectures of any family.
#pragma once
#include <memory>
#include <string>

#include "engine/brain/architecture.h"
#include "engine/run/fit.h"

namespace neurogen {

inline ArchitecturePtr brain(const BrainShape& shape) { return std::make_shared<BrainArchitecture>(shape); }
inline BrainShape read_brain(const std::string& preset_or_file) {
  return dynamic_cast<const BrainArchitecture&>(*read_architecture(preset_or_file)).shape();
}

inline Model build_training(const BrainShape& shape, const StepOptions& o) { return build_training(brain(shape), o); }
inline Model build_evaluation(const BrainShape& shape, const StepOptions& o) { return build_evaluation(brain(shape), o); }
inline Model build_stream(const BrainShape& shape, const StepOptions& o) { return build_stream(brain(shape), o); }
inline Fit fit_training(const BrainShape& shape, const StepOptions& o, Budget budget) {
  return fit_training(brain(shape), o, budget);
}
inline std::vector<Schedule> schedules(const StepOptions& o) { return schedules(BrainArchitecture({}), o); }
inline std::string describe(const BrainShape& shape, const StepOptions& o) { return describe(BrainArchitecture(shape), o); }

}  // namespace neurogen

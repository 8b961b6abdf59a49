#include "engine/run/leaner.h"

namespace neurogen {

std::vector<Leaner> leaner(const StepOptions& o) {
  std::vector<Leaner> list;
  if (o.optimizer != Optimizer::adamw) return list;
  if (!o.narrow_moments) list.push_back({"moments", "8bit", [](StepOptions& to) { to.narrow_moments = true; }});
  if (!o.narrow_weights) list.push_back({"weights", "16bit", [](StepOptions& to) { to.narrow_weights = true; }});
  if (!o.early_updates && o.accumulate == 1)
    list.push_back({"updates", "backward", [](StepOptions& to) { to.early_updates = true; }});
  return list;
}

}  // namespace neurogen

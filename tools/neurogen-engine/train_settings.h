// The options of `neurogen-engine train`.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "neurogen/recipe.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/checkpoints.h"
#include "tools/neurogen-engine/ranks.h"
#include "tools/neurogen-engine/text.h"

namespace neurogen {

struct TrainSettings {
  Settings common;
  TextSettings text;
  CheckpointSettings checkpoints;
  RankSettings ranks;
  Rates rates;
  std::optional<std::int64_t> warmup;  // not set: rates.warmup
  std::int64_t steps = 0, seed = 1;
  std::int64_t eval_every = -1;  // steps; -1: ten times a run, 0: only at the end
  double epochs = 0, minutes = 0;
  std::string init, log, progress = "auto", export_file;
};

}  // namespace neurogen

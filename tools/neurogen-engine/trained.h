// The options that name a trained brain: weights in safetensors (`train --export`), or a checkpoint.
#pragma once
#include <CLI/CLI.hpp>

#include "engine/run/weights.h"

namespace neurogen {

void add_weight_settings(CLI::App& app, WeightSettings& settings);
// Throws Error unless exactly one file is named.
void require_weights(const WeightSettings& files);
// Says on standard error if numbers were rounded on the way.
void load(const Weights& weights, Session& session);

}  // namespace neurogen

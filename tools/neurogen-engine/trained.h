// The options that name a trained model: weights in safetensors (`train --export`), or a checkpoint.
#pragma once
#include <CLI/CLI.hpp>

#include "engine/run/weights.h"

namespace neurogen {

void add_weight_settings(CLI::App& app, WeightSettings& settings);
// Throws Error unless exactly one file is named.
void require_weights(const WeightSettings& files);
// Throws Error if `file`, the value of option `flag`, has the extension of another format than safetensors.
void check_export_name(const char* flag, const std::string& file);
// Loads the weights. Reports on standard error if numbers were rounded.
void load(Weights& weights, Session& session);

}  // namespace neurogen

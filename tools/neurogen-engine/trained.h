// The options that name a trained brain: weights in safetensors (`train --export`), or a checkpoint.
#pragma once
#include <CLI/CLI.hpp>

#include "engine/run/weights.h"

namespace neurogen {

void add_weight_settings(CLI::App& app, WeightSettings& settings);
// Throws Error unless exactly one file is named.
void require_weights(const WeightSettings& files);
// Throws Error if a file of weights to be written, the value of option `flag`, has the name of another format.
void check_export_name(const char* flag, const std::string& file);
// Says on standard error if numbers were rounded on the way.
void load(const Weights& weights, Session& session);

}  // namespace neurogen

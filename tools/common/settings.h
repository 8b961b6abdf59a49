// Options that the programs share: the model, the size of a step, the device, the budget.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "engine/run/settings.h"

namespace neurogen {

// Adds --arch, --budget, --batch, --seq, --device, --compute, --decoder-storage, --decoder-tile, --threads, --document-end,
// --overhead. `step` = false leaves out those that only a training step has.
void add_settings(CLI::App& app, Settings& settings, bool step = true);
void add_accumulate(CLI::App& app, Settings& settings);
void add_gpus(CLI::App& app, std::int64_t& gpus);

// Explains on standard error why a plan does not fit. Returns the exit status.
int refuse(const std::string& program, const Resolved& resolved, const Fit& fit);

}  // namespace neurogen

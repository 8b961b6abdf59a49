// Options that the programs share: which brain, how large a step, on what, inside which budget.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "engine/run/settings.h"

namespace neurogen {

// Adds --arch, --budget, --batch, --seq, --device, --compute, --decoder-storage, --decoder-tile, --threads, --document-end,
// --overhead. `step` false leaves out what only a training step has.
void add_settings(CLI::App& app, Settings& settings, bool step = true);

// A refused plan: the page on standard error. Returns the exit status.
int refuse(const std::string& program, const Resolved& resolved, const Fit& fit);

}  // namespace neurogen

// Predicting memory, as the program `plan` and as `neurogen-engine plan`.
#pragma once
#include <CLI/CLI.hpp>

namespace neurogen {

// Adds the options to `app`; when it has run, `status` holds the exit status (2: does not fit).
void add_plan(CLI::App& app, int& status);

}  // namespace neurogen

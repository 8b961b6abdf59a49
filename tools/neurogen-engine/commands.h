// The subcommands, one file each. Each adds its options to `app` and sets `status` when it has run.
#pragma once
#include <CLI/CLI.hpp>

namespace neurogen {

// Adds all subcommands and the program's description.
void add_commands(CLI::App& app, int& status);

void add_train(CLI::App& app, int& status);
void add_evaluate(CLI::App& app, int& status);
void add_generate(CLI::App& app, int& status);
void add_inspect(CLI::App& app, int& status);
void add_export(CLI::App& app, int& status);
void add_chat(CLI::App& app, int& status);
void add_report(CLI::App& app, int& status);
void add_doctor(CLI::App& app, int& status);
void add_bench(CLI::App& app, int& status);
void add_diagnose(CLI::App& app, int& status);

}  // namespace neurogen

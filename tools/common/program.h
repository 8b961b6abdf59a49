// What our programs have in common on the command line: long options only, --help and --version, and errors as one line
// "program: what is wrong: what to do" on standard error with exit status 2 (misuse, refusal) or 1 (failure at run time).
#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace neurogen {

// A program's name as its user knows it: the short one of the build folder, or the installed one.
inline std::string typed_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// For the program and for every one of its subcommands.
void add_standard_options(CLI::App& app, const std::string& program);
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description);

// Parses, which runs the chosen subcommand's callback, and returns the program's exit status: `status`, which the callback may
// have set, or that of an error. Standard error is for messages: where it takes none they are lost, and the status stays. What
// standard output does not take is a failure where there was none before.
int run_program(CLI::App& app, int argc, char** argv, const int& status);

}  // namespace neurogen

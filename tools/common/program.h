// Conventions of our programs' command lines: long options only, --help and --version, and errors as one line
// "program: what is wrong: what to do" on standard error with exit status 2 (misuse, refusal) or 1 (failure at run time).
#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace neurogen {

// The program's name as typed: the short one of the build folder, or the installed one.
inline std::string typed_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Adds --help and --version, for the program or one of its subcommands.
void add_standard_options(CLI::App& app, const std::string& program);
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description);

// Parses the command line, which runs the chosen subcommand's callback, and returns the exit status: `status`, which the callback
// may have set, or that of an error. Messages that standard error refuses are lost without changing the status. Output that
// standard output refuses turns success into failure.
int run_program(CLI::App& app, int argc, char** argv, const int& status);

}  // namespace neurogen

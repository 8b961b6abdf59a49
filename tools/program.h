// What our programs have in common on the command line: long options only, --help and --version, and errors as one line
// "program: what is wrong: what to do" on standard error with exit status 2 (misuse, refusal) or 1 (failure at run time).
#pragma once
#include <cstdio>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {

// Long --help and --version, also for the subcommands made behind this call.
inline void add_standard_options(CLI::App& app) {
  app.set_help_flag("--help", "Show this help and exit");
  app.set_version_flag("--version", fmt::format("{} {}", app.get_name(), NEUROGEN_VERSION), "Show the version and exit");
}

// Parses, which runs the chosen subcommand's callback, and returns the program's exit status.
inline int run_program(CLI::App& app, int argc, char** argv) {
  const auto complain = [&](const std::string& sentence, int status) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), sentence);
    return status;
  };
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& wanted) {  // --help, --version
    return app.exit(wanted);
  } catch (const CLI::ParseError& error) {
    return complain(fmt::format("{}: see {} --help", error.what(), app.get_name()), Error::kMisuse);
  } catch (const Error& error) {
    return complain(error.what(), error.status());
  } catch (const std::exception& error) {
    return complain(fmt::format("{}: this should not happen, please report it", error.what()), Error::kRunTime);
  }
}

}  // namespace neurogen

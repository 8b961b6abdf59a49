// What our programs have in common on the command line: long options only, --help and --version, and errors as one line
// "program: what is wrong: what to do" on standard error with exit status 2 (misuse, refusal) or 1 (failure at run time).
#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "arena/error.h"
#include "engine/run/process.h"
#include "tools/common/decimal.h"
#include "tools/common/nearest.h"

namespace neurogen {

// A program's name as its user knows it: the short one of the build folder, or the installed one.
inline std::string typed_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// For the program and for every one of its subcommands.
inline void add_standard_options(CLI::App& app, const std::string& program) {
  app.set_help_flag("--help", "Show this help and exit");
  app.set_version_flag("--version", program + " " NEUROGEN_VERSION, "Show the version and exit");
}

inline CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description);
  add_standard_options(*command, app.get_name());
  return command;
}

// What is wrong with the words of the command line, and where to read what is right.
inline std::string misuse(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  const std::string help = command.get_name() == app.get_name() ? app.get_name() : app.get_name() + " " + command.get_name();
  // What is not known comes first: CLI11 would complain about what is missing in its place.
  const std::vector<std::string> unknown = app.remaining(true);
  if (unknown.empty()) return fmt::format("{}: see {} --help", error.what(), help);
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) names.push_back(option->get_name());
  for (const CLI::App* other : command.get_subcommands(nullptr)) names.push_back(other->get_name());
  const std::string meant = nearest_name(unknown.front(), names);
  return fmt::format("{} is not known here{}: see {} --help", unknown.front(),
                     meant.empty() ? "" : ", perhaps " + meant + " is meant", help);
}

// Parses, which runs the chosen subcommand's callback, and returns the program's exit status.
inline int run_program(CLI::App& app, int argc, char** argv) {
  const auto complain = [&](std::string_view sentence, int status) {  // allocates nothing by itself
    fmt::print(stderr, "{}: {}\n", app.get_name(), sentence);
    return status;
  };
  const auto written = [&](int status) {
    return std::fflush(stdout) == 0 ? status : complain(std::string("standard output: ") + std::strerror(errno), Error::kRunTime);
  };
  take_decimal_numbers(app);
  try {
    app.parse(argc, argv);
    return written(0);
  } catch (const CLI::Success& wanted) {  // --help, --version
    return written(app.exit(wanted));
  } catch (const CLI::ParseError& error) {
    return complain(misuse(app, error), Error::kMisuse);
  } catch (const Error& error) {
    return complain(error.what(), error.status());
  } catch (const std::system_error& error) {  // of fmt, whose output is refused
    return complain(error.what(), Error::kRunTime);
  } catch (const std::bad_alloc&) {
    return complain(kOutOfMemory, Error::kRunTime);
  } catch (const std::exception& error) {
    return complain(fmt::format("{}: this should not happen, please report it", error.what()), Error::kRunTime);
  }
}

}  // namespace neurogen

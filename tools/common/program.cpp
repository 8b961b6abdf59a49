#include "tools/common/program.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>
#include <system_error>
#include <vector>

#include "arena/error.h"
#include "engine/files/one_line.h"
#include "engine/run/process.h"
#include "tools/common/decimal.h"
#include "tools/common/nearest.h"
#include "tools/common/out_of_memory.h"
#include "tools/common/output.h"
#include "tools/common/signals.h"
#include "tools/common/spelling.h"

namespace neurogen {
namespace {

// Bytes; longer text only echoes the input and is cut.
constexpr std::size_t kLongestSentence = 1000, kLongestEcho = 100;

// Opens /dev/null for closed standard streams: otherwise the next opened file takes the stream's number and receives its messages.
// Standard input reads as empty, standard error swallows everything, and standard output refuses writes as on a full disk.
void open_closed_streams() {
  const int flags[] = {O_RDONLY, O_RDONLY, O_WRONLY};
  for (int stream = 0; stream < 3; ++stream) {
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) {
      [[maybe_unused]] const int taken = open("/dev/null", flags[stream]);  // takes the lowest free number
    }
  }
}

int complain(const std::string& program, std::string_view sentence, int status) {
  print_error("{}: {}\n", program, sentence);
  return status;
}

// The sentence for a wrong command line, with the --help to read.
std::string misuse(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  const std::string help = command.get_name() == app.get_name() ? app.get_name() : app.get_name() + " " + command.get_name();
  // Unknown words come first: CLI11 would report only what is missing instead.
  const std::vector<std::string> unknown = app.remaining(true);
  if (unknown.empty()) {
    std::string what = error.what();
    if (const std::size_t twice = what.find(": At Most 1 required"); twice != what.npos)
      what.replace(twice, what.npos, " is given twice");
    return fmt::format("{}: see {} --help", what, help);
  }
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) names.push_back(option->get_name());
  for (const CLI::App* other : command.get_subcommands(nullptr)) names.push_back(other->get_name());
  const std::string meant = nearest_name(unknown.front(), names);
  return fmt::format("{} is not known here{}: see {} --help", one_line(unknown.front(), kLongestEcho),
                     meant.empty() ? "" : ", perhaps " + meant + " is meant", help);
}

int status_of(CLI::App& app, int argc, char** argv, const int& status) {
  const std::string program = app.get_name();
  const auto failed = [&](std::string_view sentence, int why) {
    return complain(program, one_line(sentence, kLongestSentence), why);
  };
  take_decimal_numbers(app);
  try {
    app.parse(argc, argv);
    return status;
  } catch (const CLI::Success& wanted) {  // --help, --version
    const int shown = app.exit(wanted);
    flush_out();  // errno still holds the reason
    return shown;
  } catch (const CLI::ParseError& error) {
    return failed(misuse(app, error), Error::kMisuse);
  } catch (const Error& error) {
    return failed(error.sentence(option_of), error.status());
  } catch (const std::bad_alloc&) {
    return complain(program, kOutOfMemory, Error::kRunTime);
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::resource_unavailable_try_again)
      return failed("the system cannot start more threads: end other programs or raise the limits (ulimit -u, ulimit -v)",
                    Error::kRunTime);
    return failed(error.what(), Error::kRunTime);
  } catch (const std::exception& error) {
    return failed(std::string(error.what()) + ": this should not happen, please report it", Error::kRunTime);
  }
}

}  // namespace

void add_standard_options(CLI::App& app, const std::string& program) {
  app.set_help_flag("--help", "show this help and exit");
  app.set_version_flag("--version", program + " " NEUROGEN_VERSION, "show the version and exit");
}

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description);
  add_standard_options(*command, app.get_name());
  return command;
}

int run_program(CLI::App& app, int argc, char** argv, const int& status) {
  open_closed_streams();
  expect_file_trouble(app.get_name().c_str());
  static const std::string name = app.get_name();  // outlives this function
  expect_no_memory(name.c_str());
  const int result = status_of(app, argc, argv, status);
  flush_out();
  if (result != 0 || output_error() == 0) return result;
  return complain(app.get_name(), std::string("standard output: ") + std::strerror(output_error()), Error::kRunTime);
}

}  // namespace neurogen

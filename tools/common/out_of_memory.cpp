#include "tools/common/out_of_memory.h"

#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <new>

#include "arena/error.h"

namespace neurogen {
namespace {

const char* program_name = "";
std::terminate_handler usual;

[[noreturn]] void uncaught() {
  const std::exception_ptr error = std::current_exception();
  if (!error) end_program(kOutOfMemory);  // no memory even for the exception
  try {
    std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    end_program(kOutOfMemory);
  } catch (...) {
    usual();
    std::abort();
  }
}

}  // namespace

void expect_no_memory(const char* program) {
  program_name = program;
  if (std::get_terminate() != uncaught) usual = std::set_terminate(uncaught);
}

void end_program(std::string_view sentence) {
  for (const std::string_view part : {std::string_view(program_name), std::string_view(": "), sentence, std::string_view("\n")}) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, part.data(), part.size());
  }
  ::_exit(Error::kRunTime);
}

}  // namespace neurogen

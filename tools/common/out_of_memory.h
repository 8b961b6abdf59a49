// Ends a program that has no memory with one sentence where nothing can catch std::bad_alloc: before main, in a library's thread,
// in a noexcept function. Nothing here allocates.
#pragma once
#include <string_view>

namespace neurogen {

inline constexpr std::string_view kOutOfMemory = "out of memory: close other programs, or use a smaller --budget or a shorter text";

// `program`: its name, which must outlive it.
void expect_no_memory(const char* program);

// Prints "program: sentence" and ends the process.
[[noreturn]] void end_program(std::string_view sentence);

}  // namespace neurogen

// Printing that throws nothing where the system refuses: a run is worth more than what it says. run_program() makes a failure of
// what standard output did not take.
#pragma once
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <iterator>

namespace neurogen {

namespace detail {
inline int output_error = 0;
}
// errno of the first thing that standard output did not take, 0 while there is none.
inline int output_error() { return detail::output_error; }
inline void note_output_error() {
  if (detail::output_error == 0) detail::output_error = errno != 0 ? errno : EIO;
}
inline void flush_out() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) note_output_error();  // or what wrote before has failed, and said nothing
}

template <typename... Values>
bool print_to(std::FILE* stream, fmt::format_string<Values...> format, Values&&... values) {
  fmt::memory_buffer text;
  fmt::format_to(std::back_inserter(text), format, std::forward<Values>(values)...);
  return std::fwrite(text.data(), 1, text.size(), stream) == text.size();
}

// To standard output.
template <typename... Values>
void print_out(fmt::format_string<Values...> format, Values&&... values) {
  if (!print_to(stdout, format, std::forward<Values>(values)...)) note_output_error();
}

// To standard error, where it takes something.
template <typename... Values>
void print_error(fmt::format_string<Values...> format, Values&&... values) {
  print_to(stderr, format, std::forward<Values>(values)...);
}

}  // namespace neurogen

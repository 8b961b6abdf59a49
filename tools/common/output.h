// Printing that never throws: a run is worth more than its output. run_program() turns refused standard output into a failure.
#pragma once
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <iterator>

namespace neurogen {

namespace detail {
inline int output_error = 0;
inline bool silent = false;
}  // namespace detail
// From now on nothing is printed by the functions below: another process of the same run prints.
inline void silence_output() { detail::silent = true; }
// errno of the first write that standard output refused, 0 if there was none.
inline int output_error() { return detail::output_error; }
inline void note_output_error() {
  if (detail::output_error == 0) detail::output_error = errno != 0 ? errno : EIO;
}
inline void flush_out() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) note_output_error();  // ferror: an earlier write failed silently
}

template <typename... Values>
bool print_to(std::FILE* stream, fmt::format_string<Values...> format, Values&&... values) {
  if (detail::silent) return true;
  fmt::memory_buffer text;
  fmt::format_to(std::back_inserter(text), format, std::forward<Values>(values)...);
  return std::fwrite(text.data(), 1, text.size(), stream) == text.size();
}

// Prints to standard output.
template <typename... Values>
void print_out(fmt::format_string<Values...> format, Values&&... values) {
  if (!print_to(stdout, format, std::forward<Values>(values)...)) note_output_error();
}

// Prints to standard error; failures are ignored.
template <typename... Values>
void print_error(fmt::format_string<Values...> format, Values&&... values) {
  print_to(stderr, format, std::forward<Values>(values)...);
}

}  // namespace neurogen

// Numbers on a command line are decimal: CLI11 would read 010 as eight and 0x10 as sixteen, and would cut what is beyond 64 bits.
#pragma once
#include <CLI/CLI.hpp>

namespace neurogen {

// For all options that take a number, of the program and of its subcommands: others are refused, with the type's limits.
void take_decimal_numbers(CLI::App& app);

}  // namespace neurogen

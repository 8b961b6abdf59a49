// Makes numbers on the command line decimal: CLI11 would read 010 as eight and 0x10 as sixteen, and cut numbers beyond 64 bits.
#pragma once
#include <CLI/CLI.hpp>

namespace neurogen {

// For all numeric options of the program and its subcommands; other input is refused with the type's limits.
void take_decimal_numbers(CLI::App& app);

// Checks of an option; CLI11's own print the largest number.
CLI::Validator above_zero();
CLI::Validator not_negative();

}  // namespace neurogen

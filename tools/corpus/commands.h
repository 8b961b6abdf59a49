// The program corpus: its options, and a function for each subcommand except make (make.h). Outputs appear whole or not at all;
// each call finally prints a line per output. Throws Error.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace neurogen {

// Sets name, subcommands and options; parsing runs the chosen subcommand.
void add_corpus(CLI::App& app);

// Tokenises files of any size, one after another, read in pieces. "-": standard input.
void tokenize(const std::vector<std::string>& files, const std::string& tokenizer, const std::string& out);
// Takes files, folders and standard input of any size.
void train_tokenizer_file(const std::vector<std::string>& paths, std::int64_t vocabulary, const std::string& out);
void split_text(const std::string& file, double held_out, const std::string& train, const std::string& valid);

// Throws Error if a signal has arrived since catch_signals(): outputs that are not committed are discarded.
void check_signal();

}  // namespace neurogen

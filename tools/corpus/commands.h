// The program corpus: its options, and what it does beside make, one function a subcommand. Outputs appear whole or not at all;
// each call ends with a line for every output on standard output. Errors are thrown.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace neurogen {

// Name, subcommands, options; parsing runs what was asked for.
void add_corpus(CLI::App& app);

// One behind the other, in pieces: of any size. "-": standard input.
void tokenize(const std::vector<std::string>& files, const std::string& tokenizer, const std::string& out);
// Of files, folders and standard input of any size.
void train_tokenizer_file(const std::vector<std::string>& paths, std::int64_t vocabulary, const std::string& out);
void split_text(const std::string& file, double held_out, const std::string& train, const std::string& valid);

}  // namespace neurogen

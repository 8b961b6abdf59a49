// The texts of a run and the tokenizer they were made with.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/files/tokenizer.h"
#include "engine/files/tokens.h"

namespace neurogen {

struct TextSettings {
  std::vector<std::string> data;
  std::vector<std::int64_t> weights;  // one a file of data, or none
  std::string valid, tokenizer;
};

void add_text_settings(CLI::App& app, TextSettings& settings);

// Where no text is named: the demonstration's, if `make demo` has made it. Throws Error that says how else.
void find_demonstration_text(TextSettings& settings);

// Takes FILE:WEIGHT of --data apart, unless a file has that very name; where none has a weight there are none, else 1 is the
// default.
void take_weights(TextSettings& settings);

// The tokenizer of a file name, null for an empty one.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& file);
// Throws Error, naming the tokenizer's file, if it (may be null) has more pieces than the brain has words for.
void check_tokenizer(const Tokenizer* tokenizer, const std::string& file, std::int64_t vocabulary);

// Opened, encoded where they are not tokens already, and checked against the vocabulary.
struct Texts {
  Texts(const TextSettings& settings, std::int64_t vocabulary);
  std::string tokenizer_hash() const;  // hexadecimal, empty without a tokenizer

  std::unique_ptr<Tokenizer> tokenizer;
  Tokens train;
  std::optional<Tokens> valid;
};

}  // namespace neurogen

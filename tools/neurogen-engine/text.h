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

// Throws Error if the tokenizer has more pieces than the model has tokens.
void check_tokenizer(const Tokenizer& tokenizer, std::int64_t vocabulary);

// Says on standard error which of these files another tokenizer made than this one (may be null).
void warn_of_other_tokenizer(const std::vector<std::string>& files, const Tokenizer* tokenizer);

// Opened, encoded where they are not tokens already, and checked against the vocabulary.
struct Texts {
  // `carried`: the tokenizer of the weights that training begins with, for settings that name none; may be null.
  Texts(const TextSettings& settings, std::int64_t vocabulary, std::unique_ptr<Tokenizer> carried = nullptr);

  std::unique_ptr<Tokenizer> tokenizer;
  Tokens train;
  std::optional<Tokens> valid;
};

}  // namespace neurogen

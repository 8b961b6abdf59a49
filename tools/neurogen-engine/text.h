// The texts of a run and their tokenizer.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/data/tokenizer.h"
#include "engine/data/tokens.h"

namespace neurogen {

struct TextSettings {
  std::vector<std::string> data;
  std::vector<std::int64_t> weights;  // one per file of data, or empty
  std::vector<std::string> valid;
  std::string tokenizer;
};

void add_text_settings(CLI::App& app, TextSettings& settings);

// If no text is named, takes the demonstration's, which `make demo` makes. Throws Error with advice if there is none.
void find_demonstration_text(TextSettings& settings);

// Splits FILE:WEIGHT of --data, unless a file of that very name exists. If any file has a weight, the default is 1; otherwise
// `weights` stays empty.
void take_weights(TextSettings& settings);

// Throws Error if the tokenizer has more pieces than the model has tokens.
void check_tokenizer(const Tokenizer& tokenizer, std::int64_t vocabulary);

// Warns on standard error about files made with another tokenizer than this one (may be null).
void warn_of_other_tokenizer(const std::vector<std::string>& files, const Tokenizer* tokenizer);

// The opened texts, tokenised if necessary and checked against the vocabulary.
struct Texts {
  // `carried`: the tokenizer in the initial weights, used if the settings name none; may be null.
  Texts(const TextSettings& settings, std::int64_t vocabulary, std::unique_ptr<Tokenizer> carried = nullptr);

  std::unique_ptr<Tokenizer> tokenizer;
  Tokens train;
  std::vector<Tokens> valid;  // as settings.valid
};

}  // namespace neurogen

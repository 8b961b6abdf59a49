#include "tools/neurogen-engine/text.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>

#include "arena/error.h"
#include "engine/run/weights.h"
#include "tools/common/output.h"

namespace neurogen {

void add_text_settings(CLI::App& app, TextSettings& settings) {
  app.add_option("--data", settings.data,
                 "text: .bin files of tokens, or UTF-8 text with --tokenizer; for train, FILE:2 draws twice as often from FILE");
  app.add_option(
      "--tokenizer", settings.tokenizer,
      std::string(kTokenizerFiles) + " (default: the one in the weights, or the one that PREFIX.json names for PREFIX-train.bin)");
}

void find_demonstration_text(TextSettings& settings) {
  if (!settings.data.empty()) return;
  const auto readable = [](const char* file) { return ::access(file, R_OK) == 0; };
  if (!readable("demo/train.bin")) {
    throw Error(
        "no text to train on: name one with --data FILE.bin, or --data FILE.txt --tokenizer FILE.model, or run `make demo` "
        "and start in its folder");
  }
  settings.data = {"demo/train.bin"};
  if (settings.valid.empty() && readable("demo/valid.bin")) settings.valid = {"demo/valid.bin"};
  if (settings.tokenizer.empty() && readable("demo/tokenizer.model")) settings.tokenizer = "demo/tokenizer.model";
}

void take_weights(TextSettings& settings) {
  std::vector<std::int64_t> weights(settings.data.size(), 1);
  bool any = false;
  for (std::size_t i = 0; i < settings.data.size(); ++i) {
    std::string& name = settings.data[i];
    const std::size_t colon = name.rfind(':');
    if (colon == std::string::npos || ::access(name.c_str(), F_OK) == 0) continue;
    const char *const begin = name.data() + colon + 1, *const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(begin, end, weights[i]);
    if (error != std::errc{} || stop != end || weights[i] < 1 || weights[i] > kMostWeight) {
      throw Error(
          fmt::format("--data {}: the weight after the colon is invalid: use a whole number from 1 to {}", name, kMostWeight));
    }
    name.resize(colon);
    any = true;
  }
  if (any) settings.weights = std::move(weights);
}

void check_tokenizer(const Tokenizer& tokenizer, std::int64_t vocabulary) {
  if (tokenizer.vocabulary() <= vocabulary) return;
  throw Error(fmt::format("{}: {} pieces, but the architecture has a vocabulary of {}: use a smaller tokenizer or another --arch",
                          tokenizer.name(), tokenizer.vocabulary(), vocabulary));
}

void warn_of_other_tokenizer(const std::vector<std::string>& files, const Tokenizer* tokenizer) {
  if (!tokenizer) return;
  const std::string hash = fmt::format("{:016x}", tokenizer->hash());
  for (const std::string& file : files) {
    const std::string noted = noted_tokenizer(file).hash;
    if (noted.empty() || noted == hash) continue;
    print_error("warning: {} was made with another tokenizer (XXH3 {}) than {} ({}): name that one with --tokenizer\n", file, noted,
                tokenizer->name(), hash);
  }
}

namespace {

// The tokenizer that PREFIX.json names next to the tokens; null if it is gone or has changed.
std::unique_ptr<Tokenizer> noted_tokenizer_of(const std::vector<std::string>& data) {
  const NotedTokenizer noted = noted_tokenizer(data.front());
  if (noted.hash.empty() || ::access(noted.path.c_str(), R_OK) != 0) return nullptr;
  try {
    auto tokenizer = named_tokenizer(noted.path);
    return fmt::format("{:016x}", tokenizer->hash()) == noted.hash ? std::move(tokenizer) : nullptr;
  } catch (const Error&) {
    return nullptr;
  }
}

std::unique_ptr<Tokenizer> fitting_tokenizer(const TextSettings& settings, std::unique_ptr<Tokenizer> carried,
                                             std::int64_t vocabulary) {
  auto tokenizer = settings.tokenizer.empty() ? std::move(carried) : named_tokenizer(settings.tokenizer);
  if (!tokenizer) tokenizer = noted_tokenizer_of(settings.data);
  if (tokenizer) check_tokenizer(*tokenizer, vocabulary);
  return tokenizer;
}

Tokens checked(Tokens tokens, std::int64_t vocabulary) {
  tokens.check_vocabulary(vocabulary);
  return tokens;
}

}  // namespace

Texts::Texts(const TextSettings& settings, std::int64_t vocabulary, std::unique_ptr<Tokenizer> carried)
    : tokenizer(fitting_tokenizer(settings, std::move(carried), vocabulary)),
      train(checked(Tokens(settings.data, tokenizer.get(), settings.weights), vocabulary)) {
  warn_of_other_tokenizer(settings.data, tokenizer.get());
  warn_of_other_tokenizer(settings.valid, tokenizer.get());
  for (const std::string& file : settings.valid) {
    valid.push_back(checked(Tokens({file}, tokenizer.get()), vocabulary));
    if (valid.back().size() < 2) throw Error(file + ": fewer than two tokens: name a longer held-out text");
  }
}

}  // namespace neurogen

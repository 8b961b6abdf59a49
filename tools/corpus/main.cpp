// corpus: from text to the token files that the engine trains on.
#include "engine/files/tokens.h"
#include "tools/corpus/commands.h"
#include "tools/common/program.h"

int main(int argc, char** argv) {
  CLI::App app("Makes tokens of text: split it, train a tokenizer, tokenise.", "corpus");
  neurogen::add_standard_options(app);
  app.require_subcommand(1);

  std::vector<std::string> files;
  std::string tokenizer, out, train, valid;
  double held_out = 0.1;
  std::int64_t vocabulary = 0;
  const auto add_held_out = [&](CLI::App* command) {
    command->add_option("--held-out", held_out, "Fraction of the lines, the last ones, to hold out")
        ->check([](const std::string& text) {
          const double x = std::strtod(text.c_str(), nullptr);
          return std::string(x > 0 && x < 1 ? "" : "must lie between 0 and 1");
        })
        ->capture_default_str();
  };
  const auto add_files = [&](CLI::App* command) {
    command->add_option("FILE", files, "UTF-8 text")->required();
  };
  const auto add_tokenizer = [&](CLI::App* command) {
    command->add_option("--tokenizer", tokenizer, "SentencePiece model (FILE.model)")->required();
  };

  CLI::App* make = app.add_subcommand("make", "Hold out the last lines of every text and tokenise both parts");
  add_files(make);
  add_tokenizer(make);
  make->add_option("--out", out, "PREFIX of PREFIX-train.bin and PREFIX-valid.bin")->required();
  add_held_out(make);
  make->callback([&] { neurogen::make_corpus(files, tokenizer, out, held_out); });

  CLI::App* tokenize = app.add_subcommand("tokenize", "Tokenise texts, one behind the other, into one file");
  add_files(tokenize);
  add_tokenizer(tokenize);
  tokenize->add_option("--out", out, "FILE.bin: raw little-endian uint16")->required();
  tokenize->callback([&] { neurogen::tokenize(files, tokenizer, out); });

  CLI::App* learn = app.add_subcommand("train-tokenizer", "Train a byte-pair tokenizer in which any text comes back unchanged");
  add_files(learn);
  learn->add_option("--vocabulary", vocabulary, fmt::format("Pieces, at most {}", neurogen::kMaxVocabulary))->required();
  learn->add_option("--out", out, "FILE.model")->required();
  learn->callback([&] { neurogen::train_tokenizer_file(files, vocabulary, out); });

  CLI::App* split = app.add_subcommand("split", "Split a text into its first and its last lines");
  split->add_option("FILE", files, "UTF-8 text")->required()->expected(1);
  add_held_out(split);
  split->add_option("--train", train, "File for the first lines")->required();
  split->add_option("--valid", valid, "File for the held-out lines")->required();
  split->callback([&] { neurogen::split_text(files.front(), held_out, train, valid); });

  return neurogen::run_program(app, argc, argv);
}

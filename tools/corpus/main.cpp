// corpus: from text to the token files that the engine trains on.
#include "engine/files/tokens.h"
#include "tools/corpus/commands.h"
#include "tools/corpus/make.h"
#include "tools/common/program.h"

int main(int argc, char** argv) {
  CLI::App app("Makes tokens of text: split it, train a tokenizer, tokenise.", "corpus");
  neurogen::add_standard_options(app, app.get_name());
  app.require_subcommand(1);

  std::vector<std::string> files;
  std::string tokenizer, out, train, valid;
  double held_out = 0.1;
  std::int64_t vocabulary = 0;
  neurogen::MakeSettings m;
  const auto add_held_out = [](CLI::App* command, double& held_out, const char* description) {
    command->add_option("--held-out", held_out, description)
        ->check([](const std::string& text) {
          const double x = std::strtod(text.c_str(), nullptr);
          return std::string(x > 0 && x < 1 ? "" : "must lie between 0 and 1");
        })
        ->capture_default_str();
  };
  const auto add_files = [&](CLI::App* command) { command->add_option("FILE", files, "UTF-8 text")->required(); };
  const auto add_path = [](CLI::App* command, const char* option, std::string& path, const char* description) {
    command->add_option(option, path, description)->required()->type_name("FILE");
  };
  const char* const model = "SentencePiece model";

  CLI::App* make = neurogen::add_command(app, "make", "Make tokens to train on and held-out tokens of texts of any size");
  make->add_option("PATH", m.paths, "UTF-8 text: files, folders with all that is in them, - for standard input")->required();
  add_path(make, "--tokenizer", m.tokenizer, model);
  make->add_option("--out", m.prefix, "PREFIX of PREFIX-train.bin, PREFIX-valid.bin and PREFIX.json")->required()->type_name("PREFIX");
  make->add_option("--documents", m.documents,
                   "What a document is: a file, a line, or until:LINE, all up to such a line (until: alone, up to an empty one)")
      ->capture_default_str();
  add_held_out(make, m.held_out, "Fraction of the documents to hold out, by a hash of each; of a file that is one document, of its lines, the last");
  make->add_flag("--deduplicate", m.deduplicate, "Keep the first of equal documents alone: 18 to 37 bytes of memory for each, 58 million at most");
  make->add_flag("--replace-invalid", m.replace_invalid, "Put U+FFFD for what is not UTF-8, and count it, where it would be refused");
  make->add_option("--progress", m.progress, "auto, plain or none")->capture_default_str();
  make->callback([&] { neurogen::make_corpus(m); });

  CLI::App* tokenize = neurogen::add_command(app, "tokenize", "Tokenise texts, one behind the other, into one file");
  tokenize->add_option("FILE", files, "UTF-8 text, - for standard input")->required();
  add_path(tokenize, "--tokenizer", tokenizer, model);
  add_path(tokenize, "--out", out, "Tokens (.bin): raw little-endian uint16");
  tokenize->callback([&] { neurogen::tokenize(files, tokenizer, out); });

  CLI::App* learn =
      neurogen::add_command(app, "train-tokenizer", "Train a byte-pair tokenizer in which any text comes back unchanged");
  add_files(learn);
  learn->add_option("--vocabulary", vocabulary, fmt::format("Pieces, at most {}", neurogen::kMaxVocabulary))->required();
  add_path(learn, "--out", out, "SentencePiece model to write");
  learn->callback([&] { neurogen::train_tokenizer_file(files, vocabulary, out); });

  CLI::App* split = neurogen::add_command(app, "split", "Split a text into its first and its last lines");
  split->add_option("FILE", files, "UTF-8 text")->required()->expected(1);
  add_held_out(split, held_out, "Fraction of the lines, the last ones, to hold out");
  add_path(split, "--train", train, "File for the first lines");
  add_path(split, "--valid", valid, "File for the held-out lines");
  split->callback([&] { neurogen::split_text(files.front(), held_out, train, valid); });

  return neurogen::run_program(app, argc, argv);
}

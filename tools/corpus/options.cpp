#include "arena/bytes.h"
#include "engine/files/tokenizer.h"
#include "engine/files/tokens.h"
#include "tools/common/program.h"
#include "tools/corpus/commands.h"
#include "tools/corpus/make.h"

namespace neurogen {
namespace {

struct CorpusSettings {
  std::vector<std::string> files;
  std::string tokenizer, out, train, valid;
  double held_out = 0.1;
  std::int64_t vocabulary = 0;
  MakeSettings make;
};

constexpr const char* kModel = "SentencePiece model";
constexpr const char* kText = "UTF-8 text: files, folders with all that is in them, - for standard input";

void add_held_out(CLI::App* command, double& held_out, const char* description) {
  command->add_option("--held-out", held_out, description)
      ->check([](const std::string& text) {
        const double x = std::strtod(text.c_str(), nullptr);
        return std::string(x > 0 && x < 1 ? "" : "must lie between 0 and 1");
      })
      ->capture_default_str();
}

void add_path(CLI::App* command, const char* option, std::string& path, const char* description) {
  command->add_option(option, path, description)->required()->type_name("FILE");
}

}  // namespace

void add_corpus(CLI::App& app) {
  app.description("Turns text into tokens: split it, train a tokenizer, tokenise.");
  add_standard_options(app, app.get_name());
  app.require_subcommand(1);
  auto s = std::make_shared<CorpusSettings>();

  CLI::App* make = add_command(app, "make", "Turn texts of any size into training tokens and held-out tokens");
  MakeSettings& m = s->make;
  make->add_option("PATH", m.paths, kText)->required();
  add_path(make, "--tokenizer", m.tokenizer, kModel);
  make->add_option("--out", m.prefix, "PREFIX of PREFIX-train.bin, PREFIX-valid.bin and PREFIX.json")
      ->required()
      ->type_name("PREFIX");
  make->add_option("--documents", m.documents,
                   "What a document is: file, line, or until:LINE, everything up to such a line (until: ends at empty lines)")
      ->type_name("file|line|until:LINE")
      ->capture_default_str();
  add_held_out(make, m.held_out,
               "Fraction of the documents to hold out, chosen by a hash of each; a file that is one document gives its last lines");
  make->add_flag("--deduplicate", m.deduplicate,
                 "Keep only the first of equal documents: 18 to 37 bytes of memory for each, 58 million at most");
  make->add_flag("--replace-invalid", m.replace_invalid,
                 "Replace what is not UTF-8 by U+FFFD, and count it, instead of refusing it");
  make->add_option("--progress", m.progress, "auto, plain or none")->type_name("auto|plain|none")->capture_default_str();
  make->callback([s] { make_corpus(s->make); });

  CLI::App* tokenizes = add_command(app, "tokenize", "Tokenise texts, one after another, into one file");
  tokenizes->add_option("FILE", s->files, "UTF-8 text, - for standard input")->required();
  add_path(tokenizes, "--tokenizer", s->tokenizer, kModel);
  add_path(tokenizes, "--out", s->out, "Tokens (.bin): raw little-endian uint16");
  tokenizes->callback([s] { tokenize(s->files, s->tokenizer, s->out); });

  CLI::App* learn = add_command(app, "train-tokenizer", "Train a byte-pair (subword) tokenizer that gives any text back unchanged");
  learn
      ->add_option("PATH", s->files,
                   fmt::format("{}; of more than {} lines so many are drawn, and only those are held in memory (a line "
                               "of more than {} bytes counts as several)",
                               kText, with_commas(kTokenizerLines), with_commas(kTokenizerLine)))
      ->required();
  learn->add_option("--vocabulary", s->vocabulary, fmt::format("Pieces, at most {}", kMaxVocabulary))->required();
  add_path(learn, "--out", s->out, "SentencePiece model to write");
  learn->callback([s] { train_tokenizer_file(s->files, s->vocabulary, s->out); });

  CLI::App* split = add_command(app, "split", "Split a text into its first and its last lines");
  split->add_option("FILE", s->files, "UTF-8 text")->required()->expected(1);
  add_held_out(split, s->held_out, "Fraction of the lines, the last ones, to hold out");
  add_path(split, "--train", s->train, "File for the first lines");
  add_path(split, "--valid", s->valid, "File for the held-out lines");
  split->callback([s] { split_text(s->files.front(), s->held_out, s->train, s->valid); });
}

}  // namespace neurogen

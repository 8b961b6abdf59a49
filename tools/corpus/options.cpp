#include <fmt/format.h>

#include "arena/bytes.h"
#include "engine/data/tokenizer.h"
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

constexpr const char* kText = "UTF-8 text: files, folders with all their files, - for standard input";

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

  CLI::App* make = add_command(app, "make", "turn texts of any size into training tokens and held-out tokens");
  MakeSettings& m = s->make;
  make->add_option("PATH", m.paths, kText)->required();
  add_path(make, "--tokenizer", m.tokenizer, kTokenizerFiles);
  make->add_option("--out", m.prefix, "write PREFIX-train.bin, PREFIX-valid.bin and PREFIX.json")->required()->type_name("PREFIX");
  make->add_option("--documents", m.documents,
                   "what a document is: a file, a line, or everything up to a line LINE (until: means up to an empty line)")
      ->type_name("file|line|until:LINE")
      ->capture_default_str();
  add_held_out(make, m.held_out,
               "fraction of the documents to hold out, chosen by hash; of a file that is one document, the last lines");
  make->add_flag("--chat", m.chat,
                 "each line is a conversation, {\"messages\": [{\"role\": ..., \"content\": ...}]}; it becomes tokens under the "
                 "tokenizer's "
                 "chat template, and PREFIX-train.mask and PREFIX-valid.mask let only the assistant's words be learned")
      ->excludes("--documents");
  make->add_flag("--deduplicate", m.deduplicate,
                 "keep only the first of equal documents; takes 18 to 37 bytes of memory per document, at most 58 million");
  make->add_flag("--replace-invalid", m.replace_invalid,
                 "replace invalid UTF-8 by U+FFFD and count it, instead of refusing the text");
  make->add_option("--progress", m.progress, "progress on standard error: a bar, plain lines or none; auto: a bar on a terminal")
      ->type_name("auto|plain|none")
      ->capture_default_str();
  make->callback([s] { make_corpus(s->make); });

  CLI::App* tokenizes = add_command(app, "tokenize", "tokenise texts, one after another, into one file");
  tokenizes->add_option("FILE", s->files, "UTF-8 text, - for standard input")->required();
  add_path(tokenizes, "--tokenizer", s->tokenizer, kTokenizerFiles);
  add_path(tokenizes, "--out", s->out,
           "file to write: tokens (.bin), little-endian uint16; above 65,536 pieces uint32 behind llm.c's header");
  tokenizes->callback([s] { tokenize(s->files, s->tokenizer, s->out); });

  CLI::App* learn = add_command(app, "train-tokenizer", "train a byte-pair (BPE) tokenizer that restores any text byte for byte");
  learn
      ->add_option("PATH", s->files,
                   fmt::format("{}; at most {} lines are used, drawn evenly from longer texts (a line of more than {} "
                               "bytes counts as several)",
                               kText, with_commas(kTokenizerLines), with_commas(kTokenizerLine)))
      ->required();
  learn->add_option("--vocabulary", s->vocabulary, fmt::format("number of subwords, at most {}", kMostTrained))->required();
  add_path(learn, "--out", s->out, "file to write: the SentencePiece model");
  learn->callback([s] { train_tokenizer_file(s->files, s->vocabulary, s->out); });

  CLI::App* split = add_command(app, "split", "split a text into its first and its last lines");
  split->add_option("FILE", s->files, "UTF-8 text")->required()->expected(1);
  add_held_out(split, s->held_out, "fraction of the lines to hold out, the last ones");
  add_path(split, "--train", s->train, "file to write: the first lines");
  add_path(split, "--valid", s->valid, "file to write: the held-out lines");
  split->callback([s] { split_text(s->files.front(), s->held_out, s->train, s->valid); });
}

}  // namespace neurogen

#include "tools/corpus/commands.h"

#include <fmt/format.h>

#include "arena/bytes.h"
#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/text.h"
#include "engine/files/tokenizer.h"

namespace neurogen {
namespace {

// A `.bin` in the making.
class TokenOutput {
 public:
  TokenOutput(const std::string& path, const Tokenizer& tokenizer) : path_(path), tokenizer_(tokenizer), file_(path) {}

  void add(std::string_view text) {
    const std::vector<std::uint16_t> ids = tokenizer_.encode(text);
    file_.write(ids.data(), ids.size() * sizeof ids[0]);
    tokens_ += ids.size();
    bytes_ += text.size();
  }
  void commit() {
    file_.commit();
    fmt::print("{}: {} tokens, {} bytes of text, {:.3f} bytes a token\n", path_, with_commas(tokens_), with_commas(bytes_),
               static_cast<double>(bytes_) / static_cast<double>(tokens_));
  }

 private:
  std::string path_;
  const Tokenizer& tokenizer_;
  AtomicFile file_;
  Bytes tokens_ = 0, bytes_ = 0;
};

std::string summary(const std::string& path, std::string_view text) {
  return fmt::format("{}: {} lines, {} bytes", path, with_commas(count_lines(text)), with_commas(text.size()));
}

}  // namespace

void make_corpus(const std::vector<std::string>& files, const std::string& tokenizer_path, const std::string& prefix,
                 double held_out) {
  const Tokenizer tokenizer(tokenizer_path);
  TokenOutput train(prefix + "-train.bin", tokenizer), valid(prefix + "-valid.bin", tokenizer);
  for (const std::string& file : files) {
    const TextFile text(file);
    const auto [before, behind] = split_lines(text.text(), held_out, file);
    train.add(before);
    valid.add(behind);
  }
  train.commit();
  valid.commit();
}

void tokenize(const std::vector<std::string>& files, const std::string& tokenizer_path, const std::string& out) {
  const Tokenizer tokenizer(tokenizer_path);
  TokenOutput output(out, tokenizer);
  for (const std::string& file : files) output.add(TextFile(file).text());
  output.commit();
}

void train_tokenizer_file(const std::vector<std::string>& files, std::int64_t vocabulary, const std::string& out) {
  std::vector<TextFile> texts;
  std::vector<std::string_view> views;
  for (const std::string& file : files) views.push_back(texts.emplace_back(file).text());
  AtomicFile output(out);  // a path that cannot be written shows before the work, not after it
  output.write(train_tokenizer(views, vocabulary, files.size() == 1 ? files[0] : "the text"));
  output.commit();
  fmt::print("{}: {} pieces\n", out, with_commas(static_cast<Bytes>(vocabulary)));
}

void split_text(const std::string& file, double held_out, const std::string& train, const std::string& valid) {
  if (train == valid) throw Error(fmt::format("{} is named for both parts: give --train and --valid a file each", train));
  const TextFile text(file);
  const auto [before, behind] = split_lines(text.text(), held_out, file);
  AtomicFile train_file(train), valid_file(valid);
  train_file.write(before);
  valid_file.write(behind);
  train_file.commit();
  valid_file.commit();
  fmt::print("{}\n{}\n", summary(train, before), summary(valid, behind));
}

}  // namespace neurogen

#include "tools/corpus/commands.h"

#include <fmt/format.h>

#include <optional>

#include "arena/bytes.h"
#include "arena/error.h"
#include "engine/data/text.h"
#include "engine/data/tokenizer.h"
#include "engine/files/atomic_file.h"
#include "tools/common/output.h"
#include "tools/common/outputs.h"
#include "tools/common/signals.h"
#include "tools/corpus/sources.h"
#include "tools/corpus/token_output.h"

namespace neurogen {
namespace {

std::string summary(const std::string& path, std::string_view text) {
  return fmt::format("{}: {} lines, {} bytes", path, with_commas(count_lines(text)), with_commas(text.size()));
}

}  // namespace

void check_signal() {
  if (caught_signal()) throw Error("stopped by a signal: no file was written", 128 + caught_signal());
}

void tokenize(const std::vector<std::string>& files, const std::string& tokenizer_path, const std::string& out) {
  std::vector<NamedFile> inputs = named("", files);
  inputs.push_back({"", tokenizer_path});
  check_outputs(inputs, {{"--out", out}});
  catch_signals();
  const std::unique_ptr<Tokenizer> tokenizer = read_tokenizer(tokenizer_path);
  TokenOutput output(out, *tokenizer);
  Bytes bytes = 0;
  for (const std::string& file : files) {
    const Bytes before = bytes;
    TextStream stream(file, false);
    for (std::string_view text; !(text = stream.next()).empty(); bytes += text.size()) output.add(text), check_signal();
    check_signal();  // it may also have ended standard input
    if (bytes == before) throw Error(fmt::format("{} is empty: give a file with text in it", file));
    output.end_text();
  }
  output.commit();
  print_out("{}: {} tokens, {} bytes of text, {:.3f} bytes per token\n", out, with_commas(output.tokens()), with_commas(bytes),
            static_cast<double>(bytes) / static_cast<double>(output.tokens()));
}

void train_tokenizer_file(const std::vector<std::string>& paths, std::int64_t vocabulary, const std::string& out) {
  std::vector<std::string> files;
  for (const Source& source : find_sources(paths)) {
    for (const SourceFile& file : source.files) files.push_back(file.path);
  }
  check_outputs(named("", files), {{"--out", out}});
  (void)AtomicFile(out);  // fails before the work if the path cannot be written
  std::optional<TextStream> stream;
  auto file = files.begin();
  const auto next_text = [&]() -> std::string_view {
    if (file == files.end()) return {};
    if (!stream) stream.emplace(*file, false);
    if (const std::string_view text = stream->next(); !text.empty()) return text;
    stream.reset();
    ++file;
    return "\n";  // a line ends with its file
  };
  const std::string model = train_tokenizer(next_text, vocabulary, files.size() == 1 ? files[0] : "the text");
  AtomicFile output(out);
  output.write(model);
  output.commit();
  print_out("{}: {} pieces\n", out, with_commas(static_cast<Bytes>(vocabulary)));
}

void split_text(const std::string& file, double held_out, const std::string& train, const std::string& valid) {
  check_outputs({{"", file}}, {{"--train", train}, {"--valid", valid}});
  catch_signals();
  const TextFile text(file);
  const auto [before, behind] = split_lines(text.text(), held_out, file);
  AtomicFile train_file(train), valid_file(valid);
  train_file.write(before);
  valid_file.write(behind);
  check_signal();
  train_file.commit();
  valid_file.commit();
  print_out("{}\n{}\n", summary(train, before), summary(valid, behind));
}

}  // namespace neurogen

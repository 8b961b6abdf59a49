#include "tools/corpus/make.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/data/text.h"
#include "engine/files/atomic_file.h"
#include "tools/common/clock.h"
#include "tools/common/output.h"
#include "tools/common/outputs.h"
#include "tools/common/progress.h"
#include "tools/common/signals.h"
#include "tools/corpus/commands.h"
#include "tools/corpus/conversation.h"
#include "tools/corpus/digest_set.h"
#include "tools/corpus/documents.h"
#include "tools/corpus/sources.h"
#include "tools/corpus/token_output.h"

namespace neurogen {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kLongestLine = std::size_t{64} << 20;  // bytes of a conversation, which memory holds

// Totals of one source or of all.
struct Counts {
  std::uint64_t bytes = 0, documents = 0, empty = 0, duplicates = 0, replaced = 0;
  Counts& operator+=(const Counts& o) {
    bytes += o.bytes, documents += o.documents, empty += o.empty, duplicates += o.duplicates, replaced += o.replaced;
    return *this;
  }
  ordered_json json() const {
    return {{"bytes", bytes}, {"documents", documents}, {"empty", empty}, {"duplicates", duplicates}, {"replaced", replaced}};
  }
};

std::vector<Source> readable_beside_outputs(const MakeSettings& s) {
  if (s.prefix.empty() || s.prefix.ends_with('/')) {
    throw Error(fmt::format("--out {} is the beginning of three files' names: name it, as in {}my", s.prefix, s.prefix));
  }
  std::vector<Source> sources = find_sources(s.paths);
  std::vector<NamedFile> inputs = {{"", s.tokenizer}};
  for (const Source& source : sources) {
    for (const SourceFile& file : source.files) inputs.push_back({"", file.path});
  }
  std::vector<NamedFile> outputs;
  for (const char* end : {"-train.bin", "-valid.bin", "-train.mask", "-valid.mask", ".json"})
    outputs.push_back({"--out", s.prefix + end});
  check_outputs(inputs, outputs);
  return sources;
}

class Maker : DocumentSink {
 public:
  explicit Maker(const MakeSettings& s)
      : s_(s),
        rule_(parse_document_rule(s.chat ? "line" : s.documents)),
        progress_(s.progress),
        tokenizer_(read_tokenizer(s.tokenizer)),
        sources_(readable_beside_outputs(s)),
        train_(s.prefix + "-train.bin", *tokenizer_, s.chat),
        valid_(s.prefix + "-valid.bin", *tokenizer_, s.chat),
        manifest_(s.prefix + ".json") {
    if (s.chat && !tokenizer_->chat_template())
      throw Error(fmt::format(
          "{} has no chat template that is known (ChatML, Llama 2's or 3's): name a tokenizer of a model for chats", s.tokenizer));
    for (const Source& source : sources_) {
      for (const SourceFile& file : source.files) expected_ += file.bytes, measured_ = measured_ && file.bytes > 0;
    }
  }

  void run() {
    ordered_json sources = ordered_json::array();
    for (const Source& source : sources_) {
      by_lines_ = !source.folder && rule_.kind == DocumentRule::file;
      here_ = {};
      for (const SourceFile& file : source.files) read(file, source.folder);
      all_ += here_;
      sources.push_back({{"path", source.path}, {"files", source.files.size()}, {"passed_over", source.passed_over}});
      sources.back().update(here_.json());
      sources.back()["held_out"] = by_lines_ ? "last lines" : "documents by hash";
    }
    progress_.finish();
    check_signal();  // a signal may also have ended standard input
    for (const TokenOutput* output : {&train_, &valid_}) {
      if (output->tokens() > 0) continue;
      throw Error(fmt::format("none of {} documents is left for {}: give more documents or another --held-out",
                              with_commas(all_.documents - all_.duplicates), output->path()));
    }
    commit(std::move(sources));
  }

 private:
  void read(const SourceFile& file, bool in_folder) {
    name_ = file.path == "-" ? "standard input" : file.path;
    line_ = 0;
    TextStream stream(file.path, s_.replace_invalid);
    DocumentCutter cutter(rule_, *this);
    const std::uint64_t before = here_.bytes;
    begin_document();
    for (std::string_view text; !(text = stream.next()).empty();) {
      here_.bytes += text.size();
      cutter.add(text);
      show_progress();
      check_signal();
    }
    if (here_.bytes == before) {
      if (!in_folder) throw Error(fmt::format("{} is empty: give a file with text in it", name_));
      ++here_.empty;
    }
    cutter.end_input();
    here_.replaced += stream.replaced();
  }

  void begin_document() {
    begin_ = train_.tokens();
    newlines_ = 0;
    blank_ = true;
    last_ = '\n';
    conversation_.clear();
    XXH3_128bits_reset(&hash_);
  }

  void add(std::string_view text) override {
    if (text.empty()) return;
    XXH3_128bits_update(&hash_, text.data(), text.size());
    blank_ = blank_ && text.find_first_not_of("\r\n") == std::string_view::npos;
    newlines_ += static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
    last_ = text.back();
    if (s_.chat) conversation_ += text;
    else train_.add(text);
    if (conversation_.size() > kLongestLine)
      throw Error(fmt::format("{} line {} has over {} bytes: make shorter conversations", name_, line_ + 1, kLongestLine));
  }

  void add_conversation() {
    const ConversationIds all = read_conversation(conversation_, *tokenizer_, fmt::format("{} line {}", name_, line_));
    for (std::size_t i = 0; i < all.ids.size(); ++i) train_.add(all.ids[i], all.learned[i]);
  }

  void end_document() override {
    ++line_;
    if (!s_.chat) train_.end_text();
    else if (!blank_) add_conversation();
    ++here_.documents;
    const XXH128_hash_t digest = XXH3_128bits_digest(&hash_);
    if (rule_.kind == DocumentRule::line && blank_) {
      --here_.documents, ++here_.empty;
      train_.move(begin_, nullptr);
    } else if (s_.deduplicate && !seen_.insert(digest)) {
      ++here_.duplicates;
      train_.move(begin_, nullptr);
    } else if (by_lines_) {
      const std::uint64_t lines = newlines_ + (last_ != '\n');
      train_.move(train_.behind_lines(begin_, lines - held_out_lines(lines, s_.held_out, name_)), &valid_);
      close(train_, train_documents_);
      close(valid_, valid_documents_);
    } else if (std::ldexp(static_cast<double>(digest.high64), -64) < s_.held_out) {
      train_.move(begin_, &valid_);
      close(valid_, valid_documents_);
    } else {
      close(train_, train_documents_);
    }
    begin_document();
  }

  void close(TokenOutput& output, std::uint64_t& documents) {
    if (tokenizer_->document_end() >= 0) output.add(tokenizer_->document_end(), !s_.chat);
    ++documents;
  }

  void show_progress() {
    const double seconds = seconds_since(start_);
    if (seconds < 1) return;  // no bar for short work
    const auto done = static_cast<double>(all_.bytes + here_.bytes), rate = done / seconds;
    const double share = measured_ ? std::min(done / static_cast<double>(expected_), 0.999) : -1;
    progress_.show(share, fmt::format("{} of text  {}/s", human(all_.bytes + here_.bytes), human(static_cast<Bytes>(rate))),
                   measured_ ? std::max(0.0, (static_cast<double>(expected_) - done) / rate) : -1);
  }

  void commit(ordered_json sources) {
    const auto part = [](TokenOutput& output, std::uint64_t documents) {
      return ordered_json{{"path", output.path()},
                          {"tokens", output.tokens()},
                          {"documents", documents},
                          {"xxh3", fmt::format("{:016x}", output.hash())}};
    };
    const ordered_json manifest = {
        {"sources", std::move(sources)},
        {"all", all_.json()},
        {"documents", s_.chat ? "conversations" : s_.documents},
        {"deduplicate", s_.deduplicate},
        {"replace_invalid", s_.replace_invalid},
        {"held_out", s_.held_out},
        {"tokenizer",
         {{"path", s_.tokenizer}, {"pieces", tokenizer_->vocabulary()}, {"xxh3", fmt::format("{:016x}", tokenizer_->hash())}}},
        {"document_end", tokenizer_->document_end()},
        {"train", part(train_, train_documents_)},
        {"valid", part(valid_, valid_documents_)},
    };
    train_.commit();
    valid_.commit();
    manifest_.write(manifest.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
    manifest_.commit();
    print();
  }

  void print() const {
    for (const auto& [output, documents] : {std::pair{&train_, train_documents_}, {&valid_, valid_documents_}}) {
      print_out("{}: {} tokens, documents: {}\n", output->path(), with_commas(output->tokens()), with_commas(documents));
    }
    const double tokens = static_cast<double>(train_.tokens() + valid_.tokens());
    print_out("{}.json: {} bytes of text, {:.3f} bytes per token; documents: {}", s_.prefix, with_commas(all_.bytes),
              static_cast<double>(all_.bytes) / tokens, with_commas(all_.documents));
    if (all_.empty > 0) print_out(", {} empty ones skipped", with_commas(all_.empty));
    if (s_.deduplicate)
      print_out(", {} duplicates dropped (in {} bytes of memory)", with_commas(all_.duplicates), with_commas(seen_.bytes()));
    if (s_.replace_invalid) print_out(", {} invalid sequences replaced", with_commas(all_.replaced));
    print_out("\n");
    for (const Source& source : sources_) {
      if (source.passed_over > 0)
        print_out("{}: {} links to folders, pipes and devices skipped\n", source.path, source.passed_over);
    }
    if (tokenizer_->document_end() >= 0)
      print_out("token {0} ends a document: train with --document-end {0}\n", tokenizer_->document_end());
    else print_out("the tokenizer has no piece for the end of a document: ends are not marked\n");
  }

  const MakeSettings& s_;
  DocumentRule rule_;
  Progress progress_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<Source> sources_;
  TokenOutput train_, valid_;
  AtomicFile manifest_;
  DigestSet seen_;
  Counts here_, all_;
  std::uint64_t train_documents_ = 0, valid_documents_ = 0;
  Bytes expected_ = 0;
  bool measured_ = true;  // all sizes are known in advance
  Clock::time_point start_ = Clock::now();

  // The current document is written to train_, and moved once its side is known.
  std::string name_;
  bool by_lines_ = false;
  std::uint64_t begin_ = 0, newlines_ = 0;
  bool blank_ = true;  // only line ends so far
  char last_ = '\n';
  std::string conversation_;
  std::uint64_t line_ = 0;  // of the file, where documents are lines
  XXH3_state_t hash_;
};

}  // namespace

void make_corpus(const MakeSettings& settings) {
  catch_signals();
  Maker(settings).run();
}

}  // namespace neurogen

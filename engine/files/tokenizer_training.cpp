#include <string>
#include <unordered_map>

#include <fmt/format.h>
#include <sentencepiece_trainer.h>

#include "arena/error.h"
#include "engine/files/segment.h"
#include "engine/files/tokenizer.h"
#include "engine/files/tokens.h"

namespace neurogen {
namespace {

constexpr std::size_t kSentence = 4096;  // bytes; the library passes over longer ones

// The lines of several texts, long ones in segments.
class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(std::span<const std::string_view> texts) : texts_(texts) { Next(); }

  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    while (rest_.empty()) {
      if (texts_.empty()) {
        done_ = true;
        return;
      }
      rest_ = texts_.front();
      texts_ = texts_.subspan(1);
    }
    const std::string_view line = rest_.substr(0, rest_.find('\n'));
    const std::size_t length = segment_length(line, kSentence);
    sentence_ = line.substr(0, length);
    rest_.remove_prefix(length < line.size() ? length : std::min(line.size() + 1, rest_.size()));
  }

 private:
  std::span<const std::string_view> texts_;
  std::string_view rest_;
  std::string sentence_;
  bool done_ = false;
};

}  // namespace

std::string train_tokenizer(std::span<const std::string_view> texts, std::int64_t vocabulary, const std::string& name) {
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(vocabulary)},
      {"hard_vocab_limit", "true"},
      {"byte_fallback", "true"},
      {"character_coverage", "0.9995"},  // rarer characters are spelt in bytes
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"max_sentence_length", std::to_string(kSentence)},
      {"num_threads", "2"},
      {"minloglevel", "2"},
  };
  Sentences sentences(texts);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sentences, &model);
  if (!status.ok()) throw Error(fmt::format("DEBUG {} {}", name, status.message()));
  return model;
}

}  // namespace neurogen

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

// The number behind the last occurrence of `words` in the library's message, empty if there is none.
std::string number_behind(std::string_view message, std::string_view words) {
  const std::size_t at = message.rfind(words);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = message.substr(at + words.size());
  return std::string(rest.substr(0, rest.find_first_not_of("0123456789")));
}

// The library's two refusals that a person can do something about, in our words.
std::string explain(std::string_view message, std::int64_t vocabulary, const std::string& name) {
  if (const std::string most = number_behind(message, "set it to a value <= "); !most.empty()) {
    return fmt::format("{} is too small for {} pieces: give more text or a vocabulary of at most {}", name, vocabulary,
                       most);
  }
  if (const std::string least = number_behind(message, " vs "); !least.empty()) {
    return fmt::format("a vocabulary of {} is too small for the bytes and characters of {}: give at least {}", vocabulary,
                       name, least);
  }
  return fmt::format("{} gives no tokenizer ({}): give more text", name, message);
}

}  // namespace

std::string train_tokenizer(std::span<const std::string_view> texts, std::int64_t vocabulary, const std::string& name) {
  if (vocabulary < 1 || vocabulary > kMaxVocabulary) {
    throw Error(
        fmt::format("a vocabulary of {} is not possible with 16-bit tokens: choose 1 to {}", vocabulary, kMaxVocabulary));
  }
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
  if (!status.ok()) throw Error(explain(status.message(), vocabulary, name));
  return model;
}

}  // namespace neurogen

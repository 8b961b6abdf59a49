#include <fmt/format.h>
#include <sentencepiece_trainer.h>

#include <exception>
#include <string>
#include <unordered_map>

#include "arena/error.h"
#include "engine/data/segment.h"
#include "engine/data/tokenizer.h"

namespace neurogen {
namespace {

constexpr std::size_t kSentence = kTokenizerLine;  // bytes; the library skips longer ones
constexpr std::uint64_t kSpaced = 1000;            // one in 1000 sentences gets a space: a required character must occur
constexpr std::string_view kReserved = "\u2585";   // the library's own mark; it skips sentences that contain it

// Iterates over the lines of a text in pieces; splits long lines into segments, and at kReserved.
class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(const NextText& next_text) : next_text_(next_text) { Next(); }

  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }
  // Rethrows an exception of next_text: exceptions must not pass through the library.
  void check() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  void Next() override {
    while (!done_) {
      const std::string_view rest = std::string_view(text_).substr(taken_);
      std::string_view line = rest.substr(0, kSentence + 1);  // enough to decide
      line = line.substr(0, line.find('\n'));
      line = line.substr(0, line.find(kReserved));
      const bool whole = line.size() < rest.size() || ended_;
      if (whole ? !rest.empty() : line.size() > kSentence) {
        const std::size_t length = segment_length(line, kSentence);
        sentence_ = line.substr(0, length);
        const std::size_t end = rest.substr(line.size()).starts_with(kReserved) ? kReserved.size() : 1;
        taken_ += length < line.size() ? length : std::min(line.size() + end, rest.size());
        if (length > 0 && sentences_++ % kSpaced == 0) sentence_ += ' ';
        return;
      }
      done_ = ended_;
      if (!ended_) read_on();
    }
  }

 private:
  void read_on() {
    text_.erase(0, taken_);
    taken_ = 0;
    try {
      const std::string_view more = next_text_();
      ended_ = more.empty();
      text_ += more;
    } catch (...) {
      failure_ = std::current_exception();
      done_ = true;
    }
  }

  const NextText& next_text_;
  std::string text_, sentence_;
  std::size_t taken_ = 0;        // bytes of text_ already used
  std::uint64_t sentences_ = 0;  // non-empty ones so far
  bool ended_ = false, done_ = false;
  std::exception_ptr failure_;
};

// The number after the last occurrence of `words` in the library's message, empty if there is none.
std::string number_behind(std::string_view message, std::string_view words) {
  const std::size_t at = message.rfind(words);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = message.substr(at + words.size());
  return std::string(rest.substr(0, rest.find_first_not_of("0123456789")));
}

// Rewords the library's errors that the user can fix.
std::string explain(std::string_view message, std::int64_t vocabulary, const std::string& name) {
  if (const std::string most = number_behind(message, "set it to a value <= "); !most.empty()) {
    return fmt::format("{} is too small for {} pieces: give more text or a vocabulary of at most {}", name, vocabulary, most);
  }
  if (const std::string least = number_behind(message, " vs "); !least.empty()) {
    return fmt::format("a vocabulary of {} is too small for the bytes and characters of {}: give at least {}", vocabulary, name,
                       least);
  }
  if (message.find("sentences_.empty()") != message.npos) return name + " has no line with text: give more text";
  return fmt::format("no tokenizer can be trained on {} ({}): give more text", name, message);
}

}  // namespace

std::string train_tokenizer(const NextText& next_text, std::int64_t vocabulary, const std::string& name) {
  if (vocabulary < 1 || vocabulary > kMostTrained) {
    throw Error(fmt::format("a vocabulary of {} cannot be trained: choose 1 to {}", vocabulary, kMostTrained));
  }
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(vocabulary)},
      {"hard_vocab_limit", "true"},
      {"byte_fallback", "true"},
      {"character_coverage", "0.9995"},         // rarer characters are encoded as bytes
      {"user_defined_symbols", "\n"},           // a separate piece, part of no other
      {"required_chars", std::string(kSpace)},  // a piece for a space, however rare
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"max_sentence_length", std::to_string(kSentence + 1)},
      {"input_sentence_size",
       std::to_string(kTokenizerLines)},  // sampled evenly from all (Vitter 1985, "Random sampling with a reservoir")
      {"num_threads", "2"},
      {"minloglevel", "2"},
  };
  Sentences sentences(next_text);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sentences, &model);
  sentences.check();
  if (!status.ok()) throw Error(explain(status.message(), vocabulary, name));
  return model;
}

}  // namespace neurogen

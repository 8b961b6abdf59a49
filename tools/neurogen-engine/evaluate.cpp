// neurogen-engine eval: loss, perplexity, bits per byte and accuracy on a text, compared with n-gram models.
#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <optional>

#include "arena/error.h"
#include "engine/baseline/kneser_ney.h"
#include "engine/run/evaluator.h"
#include "engine/run/process.h"
#include "engine/run/session.h"
#include "tools/common/output.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/text.h"
#include "tools/neurogen-engine/trained.h"

namespace neurogen {
namespace {

struct EvaluateSettings {
  Settings common;
  TextSettings text;
  WeightSettings weights;
  std::vector<std::string> counted;
};

// Bytes and words of the predicted tokens (all but the first). A word is a run of bytes without white space.
struct Extent {
  double bytes = 0, words = 0;
};
Extent extent_of(std::span<const TokenId> ids, const Tokenizer& tokenizer) {
  Extent extent;
  bool inside = false;
  for (std::size_t i = 1; i < ids.size(); ++i) {
    for (const char byte : tokenizer.piece_bytes(ids[i])) {
      const bool blank = byte == ' ' || (byte >= '\t' && byte <= '\r');
      extent.words += !blank && !inside;
      inside = !blank;
      ++extent.bytes;
    }
  }
  return extent;
}

// Prints one line per model: its scores on `tokens` tokens.
class Table {
 public:
  Table(std::int64_t tokens, std::optional<Extent> extent) : tokens_(static_cast<double>(tokens)), extent_(extent) {
    print_out("{:<24}{:>10}{:>13}{}{:>10}{:>10}\n", "", "nats/token", "perplexity",
              extent ? "  word perplexity   bits per byte" : "", "top 1", "top 5");
  }
  void line(const std::string& name, double loss, std::int64_t right, std::int64_t among_five) const {
    print_out("{:<24}{:>10.4f}{:>13.2f}", name, loss, std::exp(loss));
    if (extent_)
      print_out("{:>#17.5g}{:>16.4f}", std::exp(loss * tokens_ / extent_->words),
                loss * tokens_ / extent_->bytes / std::numbers::ln2);
    print_out("{:>8.2f} %{:>8.2f} %\n", 100 * static_cast<double>(right) / tokens_,
              100 * static_cast<double>(among_five) / tokens_);
  }

 private:
  double tokens_;
  std::optional<Extent> extent_;
};

Evaluation evaluate(const Resolved& r, Weights& weights, const Tokens& text) {
  Fit fit = planned(build_evaluation(r.architecture, r.options), r.budget);
  if (!fit.fits()) {
    throw Error(fmt::format("evaluating {} needs {} bytes, the budget is {}: use a smaller --batch or a larger --budget",
                            r.architecture->name(), with_commas(fit.plan.total()), with_commas(fit.plan.budget)));
  }
  Session session(std::move(fit), r.place, weights.checkpoint());
  load(weights, session);
  return Evaluator(session.model, session.program).run(text);
}

// The most that counting holds, copies of the texts included. Counting starts after the model's memory is freed.
Bytes counting_bytes(const Tokens& counted, const Tokens& text) {
  return add(KneserNey::most_bytes(static_cast<std::size_t>(counted.size()), 3),
             multiply(static_cast<Bytes>(counted.size()) + static_cast<Bytes>(text.size()), sizeof(TokenId)));
}

int evaluate(EvaluateSettings s) {
  require_weights(s.weights);
  if (s.text.data.empty()) throw Error("no text to predict: name one with --data");
  Weights weights(s.weights, s.common, s.text.tokenizer);
  const Tokenizer* tokenizer = weights.tokenizer();
  const Resolved r = resolve(s.common, false);
  const Tokens text(s.text.data, tokenizer);
  text.check_vocabulary(r.architecture->vocabulary());
  warn_of_other_tokenizer(s.text.data, tokenizer);
  warn_of_other_tokenizer(s.counted, tokenizer);
  if (text.size() < 2) throw Error(s.text.data.front() + ": fewer than two tokens: name a longer text");
  if (text.masked() && !s.counted.empty())
    throw Error("n-grams predict all tokens, but some of --data are only read (FILE.mask): leave out --ngrams");
  std::optional<Tokens> counted;
  Bytes most = 0;  // bytes that counting holds
  if (!s.counted.empty()) {
    counted.emplace(s.counted, tokenizer);
    most = counting_bytes(*counted, text);
    if (add(most, r.budget.overhead) > r.budget.bytes) {
      throw Error(fmt::format(
          "counting the n-grams of {} tokens takes up to {} bytes beside an overhead of {}, the budget is {}: give --ngrams "
          "a shorter text or use a larger --budget",
          with_commas(static_cast<Bytes>(counted->size())), with_commas(most), with_commas(r.budget.overhead),
          with_commas(r.budget.bytes)));
    }
  }
  const Evaluation result = evaluate(r, weights, text);

  const HeapCapLifted raised(counted ? most : static_cast<Bytes>(text.size()) * sizeof(TokenId));
  const std::vector<TokenId> ids = text.all();
  print_out("{} tokens predicted, {} per window{}\n", with_commas(static_cast<Bytes>(result.tokens)), r.options.window,
            counted ? fmt::format("; n-grams counted in at most {} bytes", with_commas(most)) : "");
  const bool all = tokenizer && !text.masked();  // predicted
  const Table table(result.tokens, all ? std::optional(extent_of(ids, *tokenizer)) : std::nullopt);
  table.line(r.architecture->name(), result.loss, result.right, result.among_five);
  if (counted) {
    const std::vector<TokenId> learned = counted->all();
    const auto count = [&](const char* name, int order) {
      const KneserNey model(learned, order, r.architecture->vocabulary());
      const double loss = model.mean_loss(ids);
      const KneserNey::Hits hits = model.hits(ids);
      table.line(name, loss, hits.first, hits.among_five);
      return loss;
    };
    const double bigram = count("Kneser-Ney bigram", 2), trigram = count("Kneser-Ney trigram", 3);
    print_out("the model is {:.4f} nats {} the bigram and {:.4f} {} the trigram\n", std::abs(result.loss - bigram),
              result.loss < bigram ? "better than" : "worse than", std::abs(result.loss - trigram),
              result.loss < trigram ? "better than" : "worse than");
  }
  return 0;
}

}  // namespace

void add_evaluate(CLI::App& app, int& status) {
  auto s = std::make_shared<EvaluateSettings>();
  add_settings(app, s->common);
  add_text_settings(app, s->text);
  add_weight_settings(app, s->weights);
  app.add_option("--ngrams", s->counted, "compare with Kneser-Ney bigrams and trigrams counted on this text, .bin or .txt");
  app.callback([s, &status] { status = evaluate(*s); });
}

}  // namespace neurogen

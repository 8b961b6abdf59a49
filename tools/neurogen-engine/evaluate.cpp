// neurogen-engine eval: loss, perplexity and bits per byte on a text, beside what counting n-grams reaches.
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "arena/error.h"
#include "engine/baseline/kneser_ney.h"
#include "engine/run/evaluator.h"
#include "engine/run/session.h"
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

std::vector<std::uint16_t> all_tokens(const Tokens& tokens) {
  std::vector<std::int32_t> wide(static_cast<std::size_t>(tokens.size()));
  tokens.read(0, wide);
  return {wide.begin(), wide.end()};
}

int evaluate(EvaluateSettings s) {
  require_weights(s.weights);
  if (s.text.data.empty()) throw Error("no text to predict: name one with --data");
  const auto tokenizer = load_tokenizer(s.text.tokenizer);
  const Weights weights(s.weights, s.common, tokenizer.get());
  const Resolved r = resolve(s.common, false);
  const Tokens text(s.text.data, tokenizer.get());
  text.check_vocabulary(r.architecture.vocabulary);
  if (text.size() < 2) throw Error(s.text.data.front() + ": fewer than two tokens: name a longer text");

  Brain brain = build_evaluation(r.architecture, r.options);
  Plan plan = plan_graph(brain.graph, r.budget);
  if (!plan.fits()) {
    throw Error(fmt::format("evaluating {} needs {} bytes, the budget is {}: use a smaller --batch or a larger --budget",
                            r.architecture.name, with_commas(plan.total()), with_commas(plan.budget)));
  }
  Session session(std::move(brain), std::move(plan), r.place, weights.checkpoint());
  weights.load(session);
  const Evaluation result = Evaluator(session.brain, session.program).run(text);

  // Bytes of the predicted tokens: all but the first.
  const std::vector<std::uint16_t> ids = all_tokens(text);
  double bytes = 0;
  for (std::size_t i = 1; tokenizer && i < ids.size(); ++i) bytes += static_cast<double>(tokenizer->piece_bytes(ids[i]).size());
  const auto print = [&](const std::string& name, double loss) {
    fmt::print("{:<24}{:>10.4f}{:>13.2f}", name, loss, std::exp(loss));
    if (tokenizer) fmt::print("{:>16.4f}", loss * static_cast<double>(result.tokens) / bytes / std::numbers::ln2);
    fmt::print("\n");
  };
  fmt::print("{} tokens predicted, {} a window\n", with_commas(static_cast<Bytes>(result.tokens)), r.options.window);
  fmt::print("{:<24}{:>10}{:>13}{}\n", "", "nats/token", "perplexity", tokenizer ? "   bits per byte" : "");
  print(r.architecture.name + " brain", result.loss);
  if (!s.counted.empty()) {
    const std::vector<std::uint16_t> counted = all_tokens(Tokens(s.counted, tokenizer.get()));
    const double bigram = KneserNey(counted, 2, r.architecture.vocabulary).mean_loss(ids);
    const double trigram = KneserNey(counted, 3, r.architecture.vocabulary).mean_loss(ids);
    print("Kneser-Ney bigram", bigram);
    print("Kneser-Ney trigram", trigram);
    fmt::print("the brain is {:.4f} nats {} the bigram and {:.4f} {} the trigram\n", std::abs(result.loss - bigram),
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
  app.add_option("--ngrams", s->counted, "compare with Kneser-Ney bigram and trigram counted on this text, .bin or .txt");
  app.callback([s, &status] { status = evaluate(*s); });
}

}  // namespace neurogen

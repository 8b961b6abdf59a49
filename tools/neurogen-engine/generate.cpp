// neurogen-engine generate: a trained brain continues a prompt, token by token, as it is made.
#include <fmt/format.h>

#include <cstdio>

#include "arena/error.h"
#include "engine/run/sampler.h"
#include "engine/run/session.h"
#include "engine/run/signals.h"
#include "engine/run/stream.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/text.h"
#include "tools/neurogen-engine/trained.h"

namespace neurogen {
namespace {

struct GenerateSettings {
  Settings common;
  WeightSettings weights;
  std::string tokenizer, prompt;
  std::int64_t length = 100, seed = 1;
  double temperature = 0.8;
};

int generate(GenerateSettings s) {
  require_weights(s.weights);
  if (s.tokenizer.empty()) throw Error("no tokenizer: name the one the brain was trained with, --tokenizer FILE.model");
  if (s.length < 1) throw Error(fmt::format("--length is {}: use at least 1 token", s.length));
  if (!(s.temperature >= 0 && s.temperature <= 100)) throw Error(fmt::format("--temperature is {}: use 0 to 100", s.temperature));
  const auto tokenizer = load_tokenizer(s.tokenizer);
  const Weights weights(s.weights, s.common, tokenizer.get());
  const Resolved r = resolve(s.common, false);
  check_tokenizer(tokenizer.get(), s.tokenizer, r.architecture.vocabulary);

  Brain brain = build_stream(r.architecture, r.options);
  Plan plan = plan_graph(brain.graph, r.budget);
  if (!plan.fits()) {
    throw Error(fmt::format("{} needs {} bytes to speak, the budget is {}: use a shorter --seq or a larger --budget",
                            r.architecture.name, with_commas(plan.total()), with_commas(plan.budget)));
  }
  Session session(std::move(brain), std::move(plan), r.place, weights.checkpoint());
  weights.load(session);
  Stream stream(session.brain, session.program);
  Sampler sampler(r.architecture.vocabulary, s.temperature, static_cast<std::uint64_t>(s.seed));
  // Ids that stand for no text would be drawn into silence.
  for (std::int64_t id = 0; id < r.architecture.vocabulary; ++id) {
    if (tokenizer->piece_bytes(static_cast<std::uint16_t>(id)).empty()) sampler.ban(static_cast<std::int32_t>(id));
  }
  // A prompt stands at the start of a line; an empty one leaves the line to the brain.
  std::vector<std::uint16_t> prompt = {tokenizer->line_end()};
  const std::vector<std::uint16_t> words = tokenizer->encode(s.prompt);
  prompt.insert(prompt.end(), words.begin(), words.end());
  TensorView logits;
  for (std::uint16_t id : prompt) logits = stream.step(id);

  const auto put = [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout), std::fflush(stdout); };
  catch_signals();
  put(s.prompt);
  for (std::int64_t i = 0; i < s.length && !caught_signal(); ++i) {
    const std::int32_t id = sampler.draw(logits);
    put(tokenizer->piece_bytes(static_cast<std::uint16_t>(id)));
    logits = stream.step(id);
  }
  put("\n");
  return caught_signal() ? 128 + caught_signal() : 0;
}

}  // namespace

void add_generate(CLI::App& app, int& status) {
  auto s = std::make_shared<GenerateSettings>();
  add_settings(app, s->common, false);
  add_weight_settings(app, s->weights);
  app.add_option("--tokenizer", s->tokenizer, "the SentencePiece model that the brain was trained with");
  app.add_option("--prompt", s->prompt, "the text to continue");
  app.add_option("--length", s->length, "tokens to make")->capture_default_str();
  app.add_option("--temperature", s->temperature, "0 takes the likeliest token, higher is bolder")->capture_default_str();
  app.add_option("--seed", s->seed, "of the drawing")->capture_default_str();
  app.callback([s, &status] { status = generate(*s); });
}

}  // namespace neurogen

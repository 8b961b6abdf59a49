#include "tools/neurogen-engine/speaking.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "arena/error.h"
#include "tools/common/spelling.h"
#include "tools/neurogen-engine/text.h"

namespace neurogen {
namespace {

// Of models that converse: room for several turns, whole answers, and few unlikely or repeated words, which lead a small model
// astray.
void converse(SpeakingSettings& s, Resolved& r) {
  constexpr std::int64_t kWindow = 2048, kAnswer = 512;
  const auto given = [&](const char* option) { return s.app->count(option) > 0; };
  if (!given("--seq")) r.options.window = std::min(kWindow, r.architecture->context());
  if (!given("--max-tokens")) s.max_tokens = kAnswer;
  if (!given("--temperature")) s.sampling.temperature = 0.2;
  if (!given("--min-p")) s.sampling.min_p = 0.05;
  if (!given("--repetition-penalty")) s.sampling.repetition_penalty = 1.1;
}

}  // namespace

std::vector<Choice> choices(SpeakingSettings& s) {
  std::vector<Choice> all = {{"max_tokens", "most tokens to generate", 1, 1e9, &s.max_tokens}};
  for (const Choice& choice : choices(s.sampling)) all.push_back(choice);
  return all;
}

void add_speaking_settings(CLI::App& app, SpeakingSettings& s) {
  s.app = &app;
  add_settings(app, s.common, false);
  add_weight_settings(app, s.weights);
  app.add_option("--tokenizer", s.tokenizer, std::string(kTokenizerFiles) + " (default: the one in the file of weights)");
  app.add_option("--system", s.system, "what the model is told before the conversation, by its chat template");
  for (const Choice& choice : choices(s)) {
    std::visit([&](auto* number) { app.add_option("--" + dashed(choice.name), *number, choice.meaning)->capture_default_str(); },
               choice.value);
  }
}

Voice::Voice(SpeakingSettings& s, bool converses, std::size_t texts) {
  require_weights(s.weights);
  for (const Choice& choice : choices(s)) choice.check();
  weights = std::make_unique<Weights>(s.weights, s.common, s.tokenizer);
  tokenizer = weights->tokenizer();
  if (!tokenizer) throw Error("these weights carry no tokenizer: name the one of their training with --tokenizer FILE");
  if (!s.system.empty() && !tokenizer->chat_template())
    throw Error("--system is for models with a chat template, and none is known of this one: leave it out");
  system = s.system;
  Resolved r = resolve(s.common, false);
  if (converses && tokenizer->chat_template()) converse(s, r);
  check_tokenizer(*tokenizer, r.architecture->vocabulary());

  std::int64_t& streams = r.options.streams = std::min(static_cast<std::int64_t>(texts), r.architecture->most_streams());
  SpeakerTensors tensors;
  const auto plan = [&] {
    Model model = build_stream(r.architecture, r.options);
    tensors = Speaker::declare(model, *tokenizer, texts > 1 ? s.max_tokens : 0);
    return planned(std::move(model), r.budget);
  };
  Fit fit = plan();
  while (!fit.fits() && streams > 1) {
    streams /= 2;
    fit = plan();
  }
  if (!fit.fits()) {
    throw Error(fmt::format("{} needs {} bytes to speak, the budget is {}: use a shorter --seq{} or a larger --budget",
                            r.architecture->name(), with_commas(fit.plan.total()), with_commas(fit.plan.budget),
                            texts > 1 ? ", fewer --max-tokens" : ""));
  }
  session = std::make_unique<Session>(std::move(fit), r.place, weights->checkpoint());
  load(*weights, *session);
  speaker = std::make_unique<Speaker>(session->model, session->program, tensors, *tokenizer, s.sampling);
}

bool Voice::ends(std::int64_t token) const {
  const std::vector<TokenId>& ends = tokenizer->ends();
  return token == session->model.options.document_end || std::find(ends.begin(), ends.end(), token) != ends.end();
}

std::vector<Message> Voice::opening() const {
  if (system.empty()) return {};
  return {{"system", system}};
}

void put(std::string_view text) {
  static char buffer[4096];
  static const bool buffered = std::setvbuf(stdout, buffer, _IOFBF, sizeof buffer) == 0;
  if (buffered && std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  throw Error(std::string("standard output: ") + std::strerror(errno), Error::kRunTime);
}

}  // namespace neurogen

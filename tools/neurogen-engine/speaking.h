// What generate and chat have in common: the options of speaking, and a brain that is ready to speak.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/run/choice.h"
#include "engine/run/speaker.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/trained.h"

namespace neurogen {

struct SpeakingSettings {
  Settings common;
  WeightSettings weights;
  std::string tokenizer;
  std::int64_t max_tokens = 100;
  Sampling sampling;
};

// All that is chosen with --NAME, or with /set NAME while one speaks with the brain.
std::vector<Choice> choices(SpeakingSettings& settings);

void add_speaking_settings(CLI::App& app, SpeakingSettings& settings);

// A trained model in its planned memory, and its tokenizer.
struct Voice {
  // Throws Error for wrong settings and for a plan that does not fit.
  explicit Voice(SpeakingSettings& settings);

  std::unique_ptr<Weights> weights;  // which the session may have begun with
  const Tokenizer* tokenizer;        // of the weights
  std::unique_ptr<Session> session;
  std::unique_ptr<Speaker> speaker;
};

// To standard output, at once, and without the buffer that the C library would allocate. Throws Error where it is refused.
void put(std::string_view text);

}  // namespace neurogen

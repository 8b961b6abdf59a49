// Shared by generate and chat: the sampling options, and a trained model that is ready to generate.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/chat_template.h"
#include "engine/run/choice.h"
#include "engine/run/speaker.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/trained.h"

namespace neurogen {

struct SpeakingSettings {
  Settings common;
  WeightSettings weights;
  std::string tokenizer, system;
  std::int64_t max_tokens = 100;
  Sampling sampling;
  const CLI::App* app = nullptr;  // tells which options were given
};

// The parameters set with --NAME, or with /set NAME in chat.
std::vector<Choice> choices(SpeakingSettings& settings);

void add_speaking_settings(CLI::App& app, SpeakingSettings& settings);

// A trained model in its planned memory, and its tokenizer.
struct Voice {
  // `converses`: by the tokenizer's chat template, if it knows one; the settings' defaults become those for conversations. `texts`:
  // the speaker takes that many at once, or fewer if the budget or the model has no room for them. Throws Error for wrong settings
  // and for a plan that does not fit.
  Voice(SpeakingSettings& settings, bool converses, std::size_t texts = 1);

  // Whether the model ends with this token what it says.
  bool ends(std::int64_t token) const;
  // The beginning of a conversation: what the system says, if anything.
  std::vector<Message> opening() const;

  std::string system;
  std::unique_ptr<Weights> weights;  // the session may map its checkpoint
  const Tokenizer* tokenizer;        // owned by the weights
  std::unique_ptr<Session> session;
  std::unique_ptr<Speaker> speaker;
};

// Writes to standard output at once, without the buffer that the C library would allocate. Throws Error on failure.
void put(std::string_view text);

}  // namespace neurogen

// neurogen-engine generate: continues a prompt with a trained model and prints each token as it is made.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "arena/error.h"
#include "engine/data/text.h"
#include "engine/run/process.h"
#include "engine/run/speech.h"
#include "tools/common/clock.h"
#include "tools/common/output.h"
#include "tools/common/signals.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/speaking.h"

namespace neurogen {
namespace {

struct GenerateSettings {
  SpeakingSettings speaking;
  std::vector<std::string> prompts;
  bool chat = false, logprobs = false;
  std::vector<std::string> stops;
};

// Standard input without its last line end, "\n" or "\r\n", which echo and editors add.
std::string standard_input() {
  std::string text;
  char part[4096];
  while (const std::size_t size = std::fread(part, 1, sizeof part, stdin)) text.append(part, size);
  if (text.ends_with('\n')) text.resize(text.size() - (text.ends_with("\r\n") ? 2 : 1));
  return text;
}

// What the model reads before its answer to `words`.
std::vector<TokenId> asked(const Voice& voice, const std::string& words) {
  const std::optional<ChatTemplate>& style = voice.tokenizer->chat_template();
  if (!style) throw Error("--chat is for models with a chat template, and none is known of this one: leave it out");
  std::vector<Message> messages = voice.opening();
  messages.push_back({"user", words});
  return encode_parts(*voice.tokenizer, style->parts(messages, true)).ids;
}

// Prints `    -0.1234    271  " unto"`: log-probability under the model itself, id, text. Allocates nothing.
void put_log_probability(double log_probability, Speaker::Said said) {
  char line[1024];
  char* end = fmt::format_to(line, "{:>10.4f}{:>7}  \"", log_probability, said.token);
  for (std::string_view text = said.text; !text.empty() && end < line + sizeof line - 8;) {
    const std::size_t length = utf8_sequence(text);
    const unsigned char first = text[0];
    if (length == 0 || first < ' ') end = fmt::format_to(end, "\\x{:02x}", first);
    else if (text[0] == '"' || text[0] == '\\') end = fmt::format_to(end, "\\{}", text[0]);
    else end = std::copy_n(text.begin(), length, end);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  end = fmt::format_to(end, "\"\n");
  put({line, static_cast<std::size_t>(end - line)});
}

// Continues a prompt and prints each token as it is made.
void continue_one(const GenerateSettings& s, const Voice& voice, const std::vector<TokenId>& prompt) {
  Speaker& speaker = *voice.speaker;
  Speech speech(s.stops, speaker.longest_piece());
  if (!s.logprobs && !s.chat) put(s.prompts[0]);
  const std::uint64_t sealed = heap_counters().allocations;
  const Clock::time_point reading = Clock::now();
  speaker.read(prompt);
  const Clock::time_point speaking = Clock::now();
  std::int64_t made = 0;
  for (bool ended = false; !ended && made < s.speaking.max_tokens && !caught_signal(); ++made) {
    const Speaker::Said said = speaker.speak();
    const std::string_view text = speech.add(said.text);
    if (s.logprobs) put_log_probability(log_probability(speaker.logits(), said.token), said);
    else put(text);
    ended = speech.stopped() || voice.ends(said.token);
  }
  if (!s.logprobs) put(speech.finish());
  const double seconds = seconds_since(speaking);
  const std::uint64_t allocations = heap_counters().allocations - sealed;
  if (!s.logprobs) put("\n");
  print_error("read {} tokens in {:.2f} s, made {} in {:.2f} s ({:.1f} tokens/s), allocations meanwhile: {}\n", prompt.size(),
              std::chrono::duration<double>(speaking - reading).count(), made, seconds,
              static_cast<double>(made) / std::max(seconds, 1e-9), allocations);
}

// Continues several prompts, as many at once as the speaker takes, and prints each when these are done.
void continue_all(const GenerateSettings& s, const Voice& voice, const std::vector<std::vector<TokenId>>& prompts) {
  Speaker& speaker = *voice.speaker;
  const auto at_once = static_cast<std::size_t>(voice.session->model.options.streams);
  std::vector<Speech> speeches(at_once, Speech(s.stops, speaker.longest_piece()));
  const std::function<bool(std::size_t, Speaker::Said)> take = [&](std::size_t i, Speaker::Said said) {
    speeches[i].add(said.text);
    return !speeches[i].stopped() && !voice.ends(said.token) && !caught_signal();
  };
  std::size_t made = 0, read = 0, cut = 0;
  double seconds = 0;
  std::uint64_t allocations = 0;
  for (std::size_t begin = 0; begin < prompts.size() && !caught_signal(); begin += at_once) {
    const std::span some = std::span(prompts).subspan(begin, std::min(at_once, prompts.size() - begin));
    const std::uint64_t before = heap_counters().allocations;
    const Clock::time_point speaking = Clock::now();
    cut += speaker.speak(some, take);
    seconds += seconds_since(speaking);
    allocations += heap_counters().allocations - before;
    for (std::size_t i = 0; i < some.size(); ++i) {
      speeches[i].finish();
      put(fmt::format("== {}\n", begin + i + 1));
      if (!s.chat) put(s.prompts[begin + i]);
      for (const std::int32_t token : speaker.said(i)) put(speeches[i].add(speaker.piece(token)));
      put(speeches[i].finish());
      put("\n");
      made += speaker.said(i).size(), read += some[i].size();
    }
  }
  if (cut > 0) print_error("{} of them ended with the positions that the model knows\n", cut);
  print_error("{} at once: read {} tokens and made {} in {:.2f} s ({:.1f} made a second), allocations meanwhile: {}\n", at_once,
              read, made, seconds, static_cast<double>(made) / std::max(seconds, 1e-9), allocations);
}

int generate(GenerateSettings s) {
  if (std::find(s.stops.begin(), s.stops.end(), "") != s.stops.end()) throw Error("--stop is empty: give the text to stop at");
  if (s.logprobs && s.prompts.size() > 1) throw Error("--logprobs is for one prompt: leave it out, or give one --prompt");
  if (!s.speaking.system.empty()) s.chat = true;
  Voice voice(s.speaking, s.chat, std::max<std::size_t>(s.prompts.size(), 1));
  if (s.prompts.empty()) s.prompts.push_back(::isatty(STDIN_FILENO) ? "" : standard_input());
  std::vector<std::vector<TokenId>> tokens;
  for (const std::string& prompt : s.prompts) {
    if (const std::size_t wrong = find_invalid_utf8(prompt); wrong != std::string::npos) {
      throw Error(fmt::format("the prompt is not UTF-8 text at byte {}: convert it with iconv -t UTF-8", wrong));
    }
    tokens.push_back(s.chat ? asked(voice, prompt) : voice.tokenizer->prompt(prompt));
  }
  catch_signals();
  if (tokens.size() == 1) continue_one(s, voice, tokens[0]);
  else continue_all(s, voice, tokens);
  return caught_signal() ? 128 + caught_signal() : 0;
}

}  // namespace

void add_generate(CLI::App& app, int& status) {
  auto s = std::make_shared<GenerateSettings>();
  add_speaking_settings(app, s->speaking);
  app.add_option(
         "--prompt", s->prompts,
         "text to continue (default: standard input); can be repeated: a transformer continues all at once, if the budget has "
         "room for their keys and values")
      ->allow_extra_args(false);
  app.add_flag("--chat", s->chat, "say the prompt to the model by its chat template, and print its answer alone");
  app.add_option("--stop", s->stops, "stop before this text; can be repeated")->allow_extra_args(false);
  app.add_flag("--logprobs", s->logprobs, "print a line per token: log-probability, id, text");
  app.callback([s, &status] { status = generate(*s); });
}

}  // namespace neurogen

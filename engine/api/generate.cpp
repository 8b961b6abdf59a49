// Continues prompts.
#include <fmt/format.h>

#include "arena/error.h"
#include "engine/api/answer.h"
#include "engine/api/check_ids.h"
#include "engine/api/state.h"
#include "engine/run/choice.h"

namespace neurogen {
namespace {

void check_sampling(Sampling sampling) {
  for (const Choice& choice : choices(sampling)) choice.check();
}

// `of`: "[2]" in a list of prompts.
void check_prompt(const char* field, std::span<const std::int32_t> prompt, std::int64_t vocabulary, const std::string& of = "") {
  if (prompt.empty()) throw Error({Field(field), of, " has no tokens: give at least one"});
  check_ids(field, prompt, 0, vocabulary, of);
}

}  // namespace

Status Engine::begin(std::span<const std::int32_t> prompt, const Sampling& sampling) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    State& s = *state_;
    check_prompt("prompt", prompt, vocabulary());
    check_sampling(sampling);
    s.stream.reset();
    s.sampler.forget();
    s.sampler.use(sampling);
    for (const std::int32_t token : prompt.first(prompt.size() - 1)) {
      s.stream.step(token);
      s.sampler.note(token);
    }
    s.unread = prompt.back();
    return std::monostate{};
  });
}

Result<std::optional<std::int32_t>> Engine::next() {
  using Token = std::optional<std::int32_t>;
  return answer<Token>([&] {
    const Working working = state_->work();
    State& s = *state_;
    const Token latest = std::exchange(s.unread, std::nullopt);
    if (!latest) return Token();
    const TensorView logits = s.stream.step(*latest);
    s.sampler.note(*latest);
    const std::int32_t drawn = s.sampler.draw(logits);
    if (drawn != s.model.options.document_end) s.unread = drawn;
    return Token(drawn);
  });
}

Status Engine::generate(std::span<const std::int32_t> prompt, const std::function<bool(std::int32_t)>& take,
                        const Sampling& sampling) {
  if (Status begun = begin(prompt, sampling); !begun) return begun;
  for (;;) {
    const auto drawn = next();
    if (!drawn) return drawn.failure();
    const std::optional<std::int32_t> token = drawn.value();
    if (!token || !take(*token)) return std::monostate{};
  }
}

Status Engine::generate(std::span<const std::vector<std::int32_t>> prompts,
                        const std::function<bool(std::size_t, std::int32_t)>& take, const Sampling& sampling) {
  Status all = answer<std::monostate>([&] {
    for (std::size_t i = 0; i < prompts.size(); ++i) check_prompt("prompts", prompts[i], vocabulary(), fmt::format("[{}]", i));
    check_sampling(sampling);
    return std::monostate{};
  });
  if (!all) return all;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    Status one = generate(
        prompts[i], [&](std::int32_t token) { return take(i, token); }, sampling);
    if (!one) return one;
  }
  return std::monostate{};
}

Result<std::size_t> Engine::generate(std::span<const std::int32_t> prompt, std::span<std::int32_t> out, const Sampling& sampling) {
  std::size_t made = 0;
  if (out.empty()) return made;
  const auto put = [&out, &made](std::int32_t token) { return out[made++] = token, made < out.size(); };
  const Status status = generate(prompt, put, sampling);
  if (!status) return status.failure();
  return made;
}

}  // namespace neurogen

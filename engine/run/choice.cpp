#include "engine/run/choice.h"

#include <fmt/format.h>

#include <charconv>

#include "arena/error.h"

namespace neurogen {
namespace {

void check_range(const Choice& choice, double number) {
  if (number >= choice.least && number <= choice.most) return;
  throw Error({Field(choice.name), fmt::format(" is {}: use {:.16g} to {:.16g}", number, choice.least, choice.most)});
}

}  // namespace

std::string Choice::text() const {
  return std::visit([](const auto* number) { return fmt::format("{}", *number); }, value);
}

void Choice::check() const {
  std::visit([this](const auto* number) { check_range(*this, static_cast<double>(*number)); }, value);
}

void Choice::set(const std::string& text) const {
  std::visit(
      [&](auto* number) {
        auto wanted = *number;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wanted);
        if (error != std::errc{} || end != text.data() + text.size()) {
          throw Error(
              {Field(name), fmt::format(" is \"{}\": use a {}number", text, std::is_integral_v<decltype(wanted)> ? "whole " : "")});
        }
        check_range(*this, static_cast<double>(wanted));
        *number = wanted;
      },
      value);
}

std::array<Choice, 6> choices(Sampling& d) {
  return {{{"temperature", "0 takes the likeliest token, higher is bolder", 0, 100, &d.temperature},
           {"top_k", "draw from the K likeliest tokens, 0: all", 0, 65536, &d.top_k},
           {"top_p", "draw from the likeliest tokens that together hold this share", 0, 1, &d.top_p},
           {"min_p", "draw from tokens at least this likely relative to the likeliest", 0, 1, &d.min_p},
           {"repetition_penalty", "above 1 discourages tokens that the text already has, 1: off", 0.01, 100, &d.repetition_penalty},
           {"seed", "seed of the draws", 0, 9e15, &d.seed}}};
}

}  // namespace neurogen

// Numbers that a person may choose, by name, and their ranges.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include "engine/api/neurogen/recipe.h"

namespace neurogen {

struct Choice {
  const char *name, *meaning;
  double least, most;
  std::variant<double*, std::int64_t*> value;

  std::string text() const;                 // "0.8"
  void check() const;                       // throws Error if the value is out of the range
  void set(const std::string& text) const;  // throws Error for what is no such number
};

// How words are drawn.
std::array<Choice, 6> choices(Sampling& sampling);

}  // namespace neurogen

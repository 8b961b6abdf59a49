// Numbers that a user may set by name, and their ranges.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include "neurogen/recipe.h"

namespace neurogen {

struct Choice {
  const char *name, *meaning;
  double least, most;
  std::variant<double*, std::int64_t*> value;

  std::string text() const;                 // "0.8"
  void check() const;                       // throws Error if the value is out of range
  void set(const std::string& text) const;  // throws Error unless `text` is a number in range
};

// Settings of sampling.
std::array<Choice, 6> choices(Sampling& sampling);

}  // namespace neurogen

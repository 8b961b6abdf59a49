// Suggests the name that was probably meant by a mistyped one.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace neurogen {

// The candidate with the least optimal string alignment distance (insertions, deletions, substitutions and transpositions; Damerau
// 1964); empty if none is within a third of the word's length.
std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

}  // namespace neurogen

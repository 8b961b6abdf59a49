// The library's fields as the command line spells them.
#pragma once
#include <string>
#include <string_view>

namespace neurogen {

// "top_k" -> "top-k"
std::string dashed(std::string_view field);

// "window" -> "--seq". Settings of sampling, which `chat` changes by their bare names, have no leading dashes.
std::string option_of(std::string_view field);

}  // namespace neurogen

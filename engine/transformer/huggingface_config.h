// config.json of Hugging Face's transformers. Sources: configuration_gpt2.py, configuration_llama.py, configuration_qwen2.py.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "engine/transformer/foreign_names.h"

namespace neurogen {

struct HuggingFaceConfig {
  Kind kind;
  TransformerShape shape;  // its name is empty
};

// A key that is missing has the value that the class in transformers gives it. Throws Error, beginning with `where`, for a key
// whose value would make the model compute something that ours do not, by its name.
HuggingFaceConfig parse_huggingface_config(std::string_view json, const std::string& where);

// The kind that has all choices of the shape. Throws Error that names the choice that none has, and the formats.
Kind kind_of(const TransformerShape& shape);

// `type`: of the weights, "float32". begin, end: tokens, -1: none.
std::string huggingface_config(const TransformerShape& shape, const char* type, std::int64_t begin, std::int64_t end);
// generation_config.json: generation begins with `begin`, -1: with nothing of its own, and ends at any of `ends`.
std::string generation_config(std::int64_t begin, std::span<const std::int64_t> ends);

}  // namespace neurogen

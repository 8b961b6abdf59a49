// Transformers in other programs' files (engine/model/pretrained.h).
#pragma once
#include "engine/model/pretrained.h"
#include "engine/transformer/architecture.h"

namespace neurogen {

std::unique_ptr<Pretrained> open_pretrained_transformer(const std::string& path);
ArchitecturePtr parse_transformer_config(std::string_view json, const std::string& where);
void write_transformer_folder(const Architecture& architecture, const WeightSource& weights, Encoding type,
                              const ForeignTokenizer& tokenizer, const std::string& folder);
void write_transformer_gguf(const Architecture& architecture, const WeightSource& weights, Encoding type,
                            const ForeignTokenizer& tokenizer, const std::string& file);

}  // namespace neurogen

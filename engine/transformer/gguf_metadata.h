// The metadata of a transformer's GGUF file (github.com/ggml-org/ggml, docs/gguf.md; llama.cpp, gguf-py/gguf/constants.py).
#pragma once
#include "engine/files/gguf.h"
#include "engine/transformer/foreign_names.h"

namespace neurogen {

struct GgufModel {
  Kind kind;
  TransformerShape shape;  // tied: whether it is, its tensors say
};

// Throws Error that names the file for an architecture other than these, and for a key of the architecture that is not known here.
GgufModel read_gguf_model(const Gguf& file);

GgufMetadata gguf_metadata(const TransformerShape& shape, Encoding type);

}  // namespace neurogen

// The byte-level BPE tokenizer in a GGUF file's metadata (tokenizer.ggml.*, tokenizer.chat_template).
#pragma once
#include <string>

#include "engine/data/byte_pairs.h"

namespace neurogen {

// Throws Error that names the file: as Gguf, and for a tokenizer that is not byte-level BPE or cuts words in an unknown way.
BytePairs read_gguf_tokenizer(const std::string& path);

}  // namespace neurogen

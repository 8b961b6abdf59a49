// The byte-level BPE tokenizer in a GGUF file's metadata (tokenizer.ggml.*, tokenizer.chat_template).
#pragma once
#include "engine/data/byte_pairs.h"
#include "engine/files/gguf.h"

namespace neurogen {

// Throws Error that names the file for a tokenizer that is not byte-level BPE or cuts words in an unknown way, and as Gguf's
// values.
BytePairs read_gguf_tokenizer(const Gguf& file);

}  // namespace neurogen

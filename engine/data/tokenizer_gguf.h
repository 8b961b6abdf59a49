// The tokenizer in a GGUF file's metadata (tokenizer.ggml.*, tokenizer.chat_template).
#pragma once
#include "engine/data/byte_pairs.h"
#include "engine/data/sentencepiece_model.h"
#include "engine/files/gguf.h"

namespace neurogen {

// Throws Error that names the file for a tokenizer that is not byte-level BPE or cuts words in an unknown way, and as Gguf's
// values.
BytePairs read_gguf_tokenizer(const Gguf& file);

// Whether it has SentencePiece's pieces, of a text as it is (sentencepiece_model.h).
bool has_gguf_sentence_pieces(const Gguf& file);
// Throws Error that names the file as Gguf's values, and for lists of different lengths.
SentencePieces read_gguf_sentence_pieces(const Gguf& file);

// Whether it has a tokenizer of one of these two kinds.
bool has_gguf_tokenizer(const Gguf& file);

}  // namespace neurogen

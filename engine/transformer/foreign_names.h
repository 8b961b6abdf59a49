// The names and layouts of a transformer's parameters in other programs' files. Sources: transformers' modeling_gpt2.py,
// modeling_llama.py and modeling_qwen2.py; llama.cpp's gguf-py/gguf/tensor_mapping.py and convert_hf_to_gguf.py.
#pragma once
#include <string>
#include <vector>

#include "engine/transformer/architecture.h"

namespace neurogen {

enum class Kind { gpt2, llama, qwen2 };
enum class Format { folder, gguf };

const char* name_of(Kind kind);  // "gpt2", as the formats spell it

// A tensor in a file: parameters whose rows follow one another. Vectors are matrices of one column.
struct ForeignTensor {
  struct Part {
    std::string parameter;
    std::int64_t rows;
  };
  std::string name;  // in a folder without the body's prefix, "transformer." or "model."
  std::vector<Part> parts;
  std::int64_t columns = 1;
  bool vector = false;
  bool transposed = false;  // the file has [columns, rows], as transformers' Conv1D
  // Of heads so wide, the file has row i of the first half at 2 i and row i of the second at 2 i + 1: llama.cpp turns pairs of
  // neighbours in a llama. 0: the file has our order.
  std::int64_t turned_heads = 0;

  std::int64_t rows() const;
  Shape shape() const;                                // in the file
  std::int64_t row_in_file(std::int64_t row) const;   // of our row, counted through all parts
  std::int64_t row_in_parts(std::int64_t row) const;  // of the file's row, the inverse
};

// All parameters of a model of this kind; the head if it is not tied.
std::vector<ForeignTensor> foreign_tensors(const TransformerShape& shape, Kind kind, Format format);
const char* head_name(Format format);  // "lm_head.weight"
const char* embedding_name(Kind kind, Format format);
std::string body_prefix(Kind kind);  // of a folder's names but the head's
// Whether a file may have this tensor without meaning: buffers that older versions saved.
bool is_harmless(Kind kind, const std::string& name);

}  // namespace neurogen

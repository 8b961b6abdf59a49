#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "arena/error.h"
#include "engine/files/atomic_directory.h"
#include "engine/files/huggingface_folder.h"
#include "engine/files/safetensors.h"
#include "engine/transformer/foreign_names.h"
#include "engine/transformer/gguf_metadata.h"
#include "engine/transformer/huggingface_config.h"
#include "engine/transformer/pretrained.h"

namespace neurogen {
namespace {

const TransformerShape& shape_of(const Architecture& architecture) {
  return static_cast<const TransformerArchitecture&>(architecture).shape();
}

// A tensor of a file, made from parameters piece by piece. A transposed matrix is held whole while it is written.
class Writing {
 public:
  Writing(const ForeignTensor& layout, const WeightSource& weights) : layout_(layout), weights_(weights) {}

  // Elements from `begin` on, in the file's order.
  void read(std::int64_t begin, std::span<float> to) {
    if (layout_.transposed) return read_transposed(begin, to);
    const std::int64_t columns = layout_.columns;
    if (layout_.turned_heads == 0) return read_rows(begin, to);
    for (std::int64_t row = begin / columns, column = begin % columns; !to.empty(); ++row, column = 0) {
      const auto part = to.first(std::min(to.size(), static_cast<std::size_t>(columns - column)));
      read_rows(layout_.row_in_parts(row) * columns + column, part);
      to = to.subspan(part.size());
    }
  }

 private:
  // Elements of the parts' rows, one after the other.
  void read_rows(std::int64_t begin, std::span<float> to) const {
    for (const ForeignTensor::Part& part : layout_.parts) {
      const std::int64_t elements = part.rows * layout_.columns;
      if (begin < elements && !to.empty()) {
        const auto piece = to.first(std::min(to.size(), static_cast<std::size_t>(elements - begin)));
        weights_.read(part.parameter, begin, piece);
        to = to.subspan(piece.size());
        begin = elements;
      }
      begin -= elements;
    }
  }
  void read_transposed(std::int64_t begin, std::span<float> to) {
    const std::int64_t rows = layout_.rows();
    if (begin == 0) {
      whole_.resize(static_cast<std::size_t>(rows * layout_.columns));
      read_rows(0, whole_);
    }
    for (std::size_t i = 0; i < to.size(); ++i) {
      const std::int64_t at = begin + static_cast<std::int64_t>(i);
      to[i] = whole_[static_cast<std::size_t>(at % rows * layout_.columns + at / rows)];
    }
    if (begin + static_cast<std::int64_t>(to.size()) == rows * layout_.columns) whole_ = {};
  }

  ForeignTensor layout_;
  const WeightSource& weights_;
  std::vector<float> whole_;
};

// llama.cpp loads as many pieces as the model has tokens, or none at all: those that no text has are made up.
void append_tokenizer(const ForeignTokenizer& tokenizer, std::size_t vocabulary, GgufMetadata& to) {
  constexpr std::int32_t kUnused = 5;
  for (auto [key, value] : tokenizer.metadata) {
    if (auto* pieces = std::get_if<std::vector<std::string>>(&value); pieces && key == "tokenizer.ggml.tokens")
      while (pieces->size() < vocabulary) pieces->push_back(fmt::format("[PAD{}]", pieces->size()));
    if (auto* kinds = std::get_if<std::vector<std::int32_t>>(&value); kinds && key == "tokenizer.ggml.token_type")
      kinds->resize(std::max(kinds->size(), vocabulary), kUnused);
    if (auto* scores = std::get_if<std::vector<float>>(&value)) scores->resize(std::max(scores->size(), vocabulary));
    to.emplace_back(key, std::move(value));
  }
  if (tokenizer.metadata.empty()) to.emplace_back("tokenizer.ggml.model", std::string("no_vocab"));
}

const char* numpy_name(DType type) { return type == DType::f32 ? "float32" : type == DType::f16 ? "float16" : "bfloat16"; }

}  // namespace

void write_transformer_folder(const Architecture& architecture, const WeightSource& weights, Encoding type,
                              const ForeignTokenizer& tokenizer, const std::string& folder) {
  const TransformerShape& shape = shape_of(architecture);
  const Kind kind = kind_of(shape);
  const DType stored = type == Encoding::f16 ? DType::f16 : type == Encoding::bf16 ? DType::bf16 : DType::f32;
  AtomicDirectory directory(folder);
  std::vector<TensorToWrite> tensors;
  for (const ForeignTensor& layout : foreign_tensors(shape, kind, Format::folder)) {
    const std::string name = (layout.name == head_name(Format::folder) ? "" : body_prefix(kind)) + layout.name;
    const auto read = [=, writing = std::make_shared<Writing>(layout, weights)](Bytes begin, std::span<std::byte> to) {
      std::vector<float> numbers(to.size() / size_of(stored));
      writing->read(static_cast<std::int64_t>(begin / size_of(stored)), numbers);
      if (encode(type, numbers, to)) return;
      throw Error(fmt::format("{} cannot be written: {} holds a number that is infinite in {}: use another type", folder, name,
                              name_of(type)));
    };
    tensors.push_back({name, stored, layout.shape(), nullptr, read});
  }
  const auto write = [&](const std::string& name, std::string_view contents) {
    AtomicFile file(directory.file(name));
    file.write(contents);
    file.commit();
  };
  write_safetensors(directory.file(kHuggingFaceWeights), {{"format", "pt"}}, tensors);
  for (const auto& [name, contents] : tokenizer.files) write(name, contents);
  write(std::string(kHuggingFaceConfig), huggingface_config(shape, numpy_name(stored), tokenizer.begin, tokenizer.end));
  if (!tokenizer.ends.empty()) write("generation_config.json", generation_config(tokenizer.begin, tokenizer.ends));
  directory.commit();
}

void write_transformer_gguf(const Architecture& architecture, const WeightSource& weights, Encoding type,
                            const ForeignTokenizer& tokenizer, const std::string& file) {
  const TransformerShape& shape = shape_of(architecture);
  const Kind kind = kind_of(shape);
  GgufMetadata metadata = gguf_metadata(shape, type);
  append_tokenizer(tokenizer, static_cast<std::size_t>(shape.vocabulary), metadata);
  std::vector<ForeignTensor> layouts = foreign_tensors(shape, kind, Format::gguf);
  // llama.cpp does not load a gpt2 without it.
  if (shape.tied && kind == Kind::gpt2)
    layouts.push_back({head_name(Format::gguf), {{"embedding.weight", shape.vocabulary}}, shape.width});
  std::vector<GgufTensor> tensors;
  for (const ForeignTensor& layout : layouts) {
    if (!layout.vector && layout.columns % block_elements(type) != 0) {
      throw Error(
          fmt::format("{} has rows of {} numbers, which {} has not: use another type", layout.name, layout.columns, name_of(type)));
    }
    // llama.cpp computes with vectors and positions in f32 alone.
    const bool plain = layout.vector || layout.parts[0].parameter == "positions.weight";
    const auto read = [writing = std::make_shared<Writing>(layout, weights)](std::int64_t begin, std::span<float> to) {
      writing->read(begin, to);
    };
    tensors.push_back({layout.name, plain ? Encoding::f32 : type, layout.shape(), read});
  }
  write_gguf(file, metadata, tensors);
}

}  // namespace neurogen

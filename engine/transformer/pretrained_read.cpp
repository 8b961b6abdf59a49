#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "arena/error.h"
#include "engine/files/huggingface_folder.h"
#include "engine/files/one_line.h"
#include "engine/transformer/foreign_names.h"
#include "engine/transformer/gguf_metadata.h"
#include "engine/transformer/huggingface_config.h"
#include "engine/transformer/pretrained.h"

namespace neurogen {
namespace {

// Checked as an architecture file is.
ArchitecturePtr checked(TransformerShape shape, const std::string& name, const std::string& where) {
  shape.name = one_line(name);
  return std::make_shared<TransformerArchitecture>(parse_transformer(to_json(shape), where));
}

const TransformerShape& shape_of(const ArchitecturePtr& architecture) {
  return static_cast<const TransformerArchitecture&>(*architecture).shape();
}

// Of tensors in a mapped file.
class PretrainedTransformer : public Pretrained {
 public:
  const std::string& path() const override { return path_; }
  const ArchitecturePtr& architecture() const override { return architecture_; }
  const std::vector<EncodedTensor>& tensors() const override { return tensors_; }
  void read(const std::string& parameter, std::int64_t begin, std::span<float> to) const override;

 protected:
  explicit PretrainedTransformer(std::string path) : path_(std::move(path)) {}

  // The tensors have the names of foreign_tensors. Finds every parameter; if `shape` is tied, the head may be there all the same,
  // as the embedding once more, or else makes it untied. Throws Error for tensors that are missing, have another shape, or are
  // unknown.
  void arrange(TransformerShape shape, const std::string& name, Kind kind, Format format, const std::string& where);
  const EncodedTensor* find(const std::string& name) const {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const EncodedTensor& t) { return t.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
  }

  std::string path_;
  ArchitecturePtr architecture_;
  std::vector<EncodedTensor> tensors_;

 private:
  struct Place {
    const EncodedTensor* tensor;
    ForeignTensor layout;
    std::int64_t first_row;  // of the parameter, in the layout's parts
  };
  bool same_numbers(const EncodedTensor& a, const EncodedTensor& b) const;

  std::map<std::string, Place, std::less<>> places_;
};

bool PretrainedTransformer::same_numbers(const EncodedTensor& a, const EncodedTensor& b) const {
  return a.encoding == b.encoding && a.shape == b.shape && std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end());
}

void PretrainedTransformer::arrange(TransformerShape shape, const std::string& name, Kind kind, Format format,
                                    const std::string& where) {
  const EncodedTensor *const embedding = find(embedding_name(kind, format)), *const head = find(head_name(format));
  shape.tied = shape.tied && !(head && embedding && !same_numbers(*head, *embedding));
  architecture_ = checked(std::move(shape), name, where);
  std::map<std::string_view, const EncodedTensor*> unused;
  for (const EncodedTensor& tensor : tensors_) unused.emplace(tensor.name, &tensor);
  if (shape_of(architecture_).tied) unused.erase(head_name(format));
  for (const ForeignTensor& layout : foreign_tensors(shape_of(architecture_), kind, format)) {
    const auto found = unused.find(layout.name);
    if (found == unused.end())
      throw Error(fmt::format("{}: {} is missing: use a file with all of the model's weights", path_, layout.name));
    if (found->second->shape != layout.shape()) {
      throw Error(fmt::format("{}: {} has shape {}, its architecture's is {}: the file is damaged", path_, layout.name,
                              to_string(found->second->shape), to_string(layout.shape())));
    }
    std::int64_t row = 0;
    for (const ForeignTensor::Part& part : layout.parts) {
      places_.emplace(part.parameter, Place{found->second, layout, row});
      row += part.rows;
    }
    unused.erase(found);
  }
  for (const auto& [unknown, tensor] : unused) {
    throw Error(fmt::format("{}: a {} has no {}: it may change what the model computes", path_, name_of(kind), one_line(unknown)));
  }
}

void PretrainedTransformer::read(const std::string& parameter, std::int64_t begin, std::span<float> to) const {
  const Place& place = places_.at(parameter);
  const ForeignTensor& layout = place.layout;
  const std::int64_t columns = layout.columns;
  if (!layout.transposed && layout.turned_heads == 0) {
    place.tensor->read(place.first_row * columns + begin, 1, to);
    return;
  }
  for (std::int64_t row = begin / columns, column = begin % columns; !to.empty(); ++row, column = 0) {
    const auto part = to.first(std::min(to.size(), static_cast<std::size_t>(columns - column)));
    const std::int64_t in_file = layout.row_in_file(place.first_row + row);
    if (layout.transposed) place.tensor->read(column * layout.rows() + in_file, layout.rows(), part);
    else place.tensor->read(in_file * columns + column, 1, part);
    to = to.subspan(part.size());
  }
}

class TransformerFolder final : public PretrainedTransformer {
 public:
  explicit TransformerFolder(const std::string& path) : PretrainedTransformer(path), folder_(path) {
    path_ = folder_.path();
    HuggingFaceConfig config = parse_huggingface_config(folder_.config(), folder_.config_path());
    const std::string prefix = body_prefix(config.kind);
    std::set<std::string> names;
    for (const FileTensor* tensor : folder_.tensors()) {
      const bool prefixed = tensor->name.starts_with(prefix);
      const std::string name = prefixed ? tensor->name.substr(prefix.size()) : tensor->name;
      if (is_harmless(config.kind, name)) continue;
      const std::optional<Encoding> encoding = plain_encoding(tensor->dtype);
      if (!encoding) {
        throw Error(fmt::format("{}: {} is {}: only f32, f16 and bf16 are read", path_, one_line(name), name_of(tensor->dtype)));
      }
      if (!names.insert(name).second) throw Error(fmt::format("{} has {} twice: the folder is damaged", path_, one_line(name)));
      tensors_.push_back({name, *encoding, tensor->shape, tensor->data});
    }
    const std::string name = std::filesystem::path(path_).filename().string();
    arrange(std::move(config.shape), name, config.kind, Format::folder, folder_.config_path());
  }
  const char* format() const override { return "Hugging Face"; }

 private:
  HuggingFaceFolder folder_;
};

class TransformerGguf final : public PretrainedTransformer {
 public:
  explicit TransformerGguf(const std::string& path) : PretrainedTransformer(path), file_(path) {
    GgufModel model = read_gguf_model(file_);
    tensors_ = file_.tensors();
    const std::string name =
        file_.has("general.name") ? std::string(file_.text("general.name")) : std::filesystem::path(path).stem().string();
    arrange(std::move(model.shape), name, model.kind, Format::gguf, path);
  }
  const char* format() const override { return "GGUF"; }
  const Gguf* gguf() const override { return &file_; }

 private:
  Gguf file_;
};

}  // namespace

std::unique_ptr<Pretrained> open_pretrained_transformer(const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown)) return std::make_unique<TransformerFolder>(path);
  return std::make_unique<TransformerGguf>(path);
}

ArchitecturePtr parse_transformer_config(std::string_view json, const std::string& where) {
  HuggingFaceConfig config = parse_huggingface_config(json, where);
  return checked(std::move(config.shape), name_of(config.kind), where);
}

}  // namespace neurogen

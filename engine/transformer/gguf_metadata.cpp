#include "engine/transformer/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "arena/error.h"
#include "engine/files/one_line.h"
#include "engine/transformer/huggingface_config.h"

namespace neurogen {
namespace {

constexpr std::array<std::uint32_t, 4> kFileTypes = {0, 1, 32, 7};  // llama.cpp's numbers (llama_ftype), by Encoding up to q8_0

// The values of one architecture, whose keys begin with its name.
class Keys {
 public:
  Keys(const Gguf& file, Kind kind) : file_(file), prefix_(std::string(name_of(kind)) + ".") {}

  std::int64_t whole(const char* key) { return file_.whole(full(key)); }
  std::int64_t whole(const char* key, std::int64_t otherwise) { return file_.has(full(key)) ? file_.whole(full(key)) : otherwise; }
  double real(const char* key) { return file_.real(full(key)); }
  double real(const char* key, double otherwise) { return file_.has(full(key)) ? file_.real(full(key)) : otherwise; }
  // Throws if it is there, and another number.
  void only(const char* key, std::int64_t supported) {
    if (const std::int64_t found = whole(key, supported); found != supported)
      throw Error(fmt::format("{}: {}{} is {}: only {} is supported", file_.path(), prefix_, key, found, supported));
  }
  // Throws for a key that nothing asked for.
  void finish() const {
    for (const std::string_view key : file_.keys()) {
      if (key.starts_with(prefix_) && std::find(asked_.begin(), asked_.end(), key) == asked_.end())
        throw Error(fmt::format("{}: {} is not supported: it may change what the model computes", file_.path(), one_line(key)));
    }
  }

 private:
  std::string full(const char* key) { return asked_.emplace_back(prefix_ + key); }

  const Gguf& file_;
  std::string prefix_;
  std::vector<std::string> asked_;
};

Kind kind_in(const Gguf& file) {
  const std::string_view name = file.text("general.architecture");
  for (const Kind kind : {Kind::gpt2, Kind::llama, Kind::qwen2})
    if (name == name_of(kind)) return kind;
  throw Error(fmt::format("{}: general.architecture is {}: only gpt2, llama or qwen2 is supported", file.path(), one_line(name)));
}

}  // namespace

GgufModel read_gguf_model(const Gguf& file) {
  const Kind kind = kind_in(file);
  const bool gpt2 = kind == Kind::gpt2;
  if (file.has("general.type") && file.text("general.type") != "model") {
    throw Error(fmt::format("{}: general.type is {}: only model is supported", file.path(), one_line(file.text("general.type"))));
  }
  const EncodedTensor* embedding = file.find(embedding_name(kind, Format::gguf));
  if (!embedding)
    throw Error(
        fmt::format("{} has no {}: use a file with all of the model's weights", file.path(), embedding_name(kind, Format::gguf)));
  Keys keys(file, kind);
  TransformerShape s;
  s.vocabulary = embedding->shape.front();
  s.width = keys.whole("embedding_length");
  s.layers = keys.whole("block_count");
  s.heads = keys.whole("attention.head_count");
  s.key_value_heads = keys.whole("attention.head_count_kv", s.heads);
  s.hidden = keys.whole("feed_forward_length");
  s.context = keys.whole("context_length");
  s.norm = gpt2 ? Norm::layer : Norm::rms;
  s.rotary = !gpt2;
  s.activation = gpt2 ? Activation::gelu_tanh : Activation::silu_gated;
  // llama.cpp stores these in 32 bits: the number that was meant is the shortest that rounds to it.
  const auto shortest = [](double x) { return std::stod(fmt::format("{}", static_cast<float>(x))); };
  s.norm_eps = shortest(keys.real(gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"));
  if (!gpt2) s.rotary_theta = shortest(keys.real("rope.freq_base", 10000));
  s.qkv_bias = gpt2 || kind == Kind::qwen2 || file.find("blk.0.attn_q.bias");
  s.bias = gpt2 || file.find("blk.0.attn_output.bias");
  s.tied = true;
  keys.only("vocab_size", s.vocabulary);
  if (s.heads > 0 && !gpt2) {
    for (const char* key : {"rope.dimension_count", "attention.key_length", "attention.value_length"})
      keys.only(key, s.head_width());
  }
  keys.finish();
  return {kind, s};
}

GgufMetadata gguf_metadata(const TransformerShape& s, Encoding type) {
  const Kind kind = kind_of(s);
  const std::string prefix = std::string(name_of(kind)) + ".";
  GgufMetadata list;
  const auto put = [&](const std::string& key, GgufValue value) { list.emplace_back(key, std::move(value)); };
  const auto whole = [&](const char* key, std::int64_t value) { put(prefix + key, static_cast<std::uint32_t>(value)); };
  put("general.architecture", std::string(name_of(kind)));
  put("general.type", std::string("model"));
  put("general.name", s.name);
  put("general.file_type", kFileTypes[static_cast<std::size_t>(type)]);
  if (type == Encoding::q8_0) put("general.quantization_version", std::uint32_t{2});
  whole("block_count", s.layers);
  whole("context_length", s.context);
  whole("embedding_length", s.width);
  whole("feed_forward_length", s.hidden);
  whole("attention.head_count", s.heads);
  whole("attention.head_count_kv", s.key_value_heads);
  const auto eps = static_cast<float>(s.norm_eps);
  put(prefix + (kind == Kind::gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"), eps);
  if (s.rotary) {
    put(prefix + "rope.freq_base", static_cast<float>(s.rotary_theta));
    whole("rope.dimension_count", s.head_width());
  }
  whole("vocab_size", s.vocabulary);
  return list;
}

}  // namespace neurogen

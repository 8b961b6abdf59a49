#include "engine/transformer/architecture.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "embedded/preset_gpt2.h"
#include "embedded/preset_qwen2_5_0_5b.h"
#include "embedded/preset_smollm2_135m.h"
#include "embedded/preset_smollm2_360m.h"
#include "embedded/preset_transformer_base.h"
#include "embedded/preset_transformer_small.h"
#include "embedded/preset_transformer_tiny.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"
#include "engine/transformer/pretrained.h"
#include "engine/transformer/trunk.h"

namespace neurogen {
namespace {

using nlohmann::json;

constexpr std::size_t kLargestFile = 1 << 20, kLongestName = 200, kLongestEcho = 100;  // bytes
constexpr int kLevels = 2;                                                             // of nesting, more than files have
constexpr std::int64_t kMostVocabulary = 250'000;                                      // touched_rows lists them on a GPU
constexpr std::int64_t kMostWidth = 65'536, kMostLayers = 1000, kMostContext = 1 << 20;
constexpr std::array<const char*, 3> kActivations = {"gelu_tanh", "silu_gated", "relu2"};  // by Activation

// Reads one key after another; each error names the key and says what to give. At the end, no key may be left.
class Reader {
 public:
  Reader(std::string_view text, const std::string& where) : where_(where) {
    if (text.size() > kLargestFile) throw no_architecture("it is larger than 1 MiB");
    object_ = parse_json(text, kLevels, where);
    if (!object_.is_object()) throw no_architecture("it is not a JSON object");
    object_.erase("family");
  }

  Error no_architecture(const std::string& what) const {
    return Error(fmt::format("{}: not an architecture: {}: see schemas/presets/gpt2.json for an example", where_, what));
  }
  [[noreturn]] void fail(const char* key, const std::string& value, const std::string& advice) const {
    throw Error(fmt::format("{}: {} is {}: {}", where_, key, one_line(value, kLongestEcho), advice));
  }

  void text(const char* key, std::string& to) {
    const json value = take(key, true);
    if (value.is_null()) return;
    if (!value.is_string()) fail(key, value.dump(), "use a string");
    to = value.get<std::string>();
  }
  void whole(const char* key, std::int64_t& to, std::int64_t most, bool optional = false) {
    const json value = take(key, optional);
    if (value.is_null()) return;
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 ||
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(most))
      fail(key, value.dump(), fmt::format("use a whole number from 1 to {}", most));
    to = value.get<std::int64_t>();
  }
  void real(const char* key, double& to, double least, double most, const char* advice) {
    const json value = take(key, true);
    if (value.is_null()) return;
    if (!value.is_number() || !((value.get<double>() >= least && value.get<double>() <= most) || (value == 0 && to == 0)))
      fail(key, value.dump(), advice);
    to = value.get<double>();
  }
  void flag(const char* key, bool& to) {
    const json value = take(key, false);
    if (!value.is_boolean()) fail(key, value.dump(), "use true or false");
    to = value.get<bool>();
  }
  template <std::size_t n>
  std::size_t one_of(const char* key, const std::array<const char*, n>& names) {
    const json value = take(key, false);
    for (std::size_t i = 0; i < n; ++i)
      if (value == names[i]) return i;
    fail(key, value.dump(), fmt::format("use {}", fmt::join(names, " or ")));
  }
  void finish() const {
    if (!object_.empty()) {
      throw Error(fmt::format("{}: {} is unknown: see schemas/presets/gpt2.json for the keys", where_,
                              one_line(object_.begin().key(), kLongestEcho)));
    }
  }

 private:
  json take(const char* key, bool optional) {
    const auto found = object_.find(key);
    if (found == object_.end()) {
      if (optional) return nullptr;
      throw Error(fmt::format("{}: {} is missing: see schemas/presets/gpt2.json for the keys", where_, key));
    }
    json value = *found;
    if (value.is_null()) fail(key, "null", "give it a value");
    object_.erase(found);
    return value;
  }

  json object_;
  const std::string& where_;
};

void check(const TransformerShape& s, const Reader& reader) {
  const auto divides = [&](const char* key, std::int64_t value, std::int64_t whole, const char* of) {
    if (whole % value != 0) reader.fail(key, std::to_string(value), fmt::format("use a divisor of {} ({})", of, whole));
  };
  divides("heads", s.heads, s.width, "width");
  divides("key_value_heads", s.key_value_heads, s.heads, "heads");
  if (s.head_width() % 2 != 0)
    reader.fail("heads", std::to_string(s.heads), fmt::format("use a divisor of half the width ({})", s.width / 2));
  for (const auto& [key, value] : {std::pair{"width", s.width}, {"hidden", s.hidden}})
    if (value % 8 != 0)
      reader.fail(key, std::to_string(value), fmt::format("use a multiple of 8, such as {}", (value + 7) / 8 * 8));
}

}  // namespace

std::int64_t TransformerShape::parameters() const {
  const std::int64_t norms = (2 * layers + 1) * (norm == Norm::layer ? 2 : 1) * width;
  const std::int64_t biases = layers * ((qkv_bias ? qkv_width() : 0) + (bias ? 2 * width + (gated() ? 2 : 1) * hidden : 0));
  return weights() + norms + biases + (tied ? 0 : vocabulary * width) + (rotary ? 0 : context * width);
}

TransformerShape parse_transformer(std::string_view json, const std::string& where) {
  Reader reader(json, where);
  TransformerShape s;
  s.name = where;
  reader.text("name", s.name);
  s.name = one_line(s.name, kLongestName);
  reader.whole("vocabulary", s.vocabulary, kMostVocabulary);
  if (s.vocabulary < 2) reader.fail("vocabulary", "1", "use 2 tokens or more");
  reader.whole("width", s.width, kMostWidth);
  reader.whole("layers", s.layers, kMostLayers);
  reader.whole("heads", s.heads, kMostWidth);
  s.key_value_heads = s.heads;
  reader.whole("key_value_heads", s.key_value_heads, kMostWidth, true);
  reader.whole("hidden", s.hidden, kMostWidth);
  reader.whole("context", s.context, kMostContext);
  s.norm = reader.one_of("norm", std::array{"layer", "rms"}) == 0 ? Norm::layer : Norm::rms;
  s.rotary = reader.one_of("positions", std::array{"learned", "rotary"}) == 1;
  reader.real("rotary_theta", s.rotary_theta, 1, 1e12, "use a number from 1 to 1e12");
  s.activation = static_cast<Activation>(reader.one_of("activation", kActivations));
  reader.flag("qk_norm", s.qk_norm);
  reader.flag("qkv_bias", s.qkv_bias);
  reader.flag("bias", s.bias);
  reader.flag("tied", s.tied);
  reader.flag("embedding_norm", s.embedding_norm);
  reader.real("norm_eps", s.norm_eps, 1e-12, 1, "use a number from 1e-12 to 1");
  reader.real("softcap", s.softcap, 1, 1e6, "use a bound of the logits from 1 to 1e6, or 0 for none");
  reader.finish();
  check(s, reader);
  return s;
}

std::string to_json(const TransformerShape& s) {
  return nlohmann::ordered_json{{"family", "transformer"},
                                {"name", s.name},
                                {"vocabulary", s.vocabulary},
                                {"width", s.width},
                                {"layers", s.layers},
                                {"heads", s.heads},
                                {"key_value_heads", s.key_value_heads},
                                {"hidden", s.hidden},
                                {"context", s.context},
                                {"norm", s.norm == Norm::layer ? "layer" : "rms"},
                                {"positions", s.rotary ? "rotary" : "learned"},
                                {"rotary_theta", s.rotary_theta},
                                {"activation", kActivations[static_cast<std::size_t>(s.activation)]},
                                {"qk_norm", s.qk_norm},
                                {"qkv_bias", s.qkv_bias},
                                {"bias", s.bias},
                                {"tied", s.tied},
                                {"embedding_norm", s.embedding_norm},
                                {"norm_eps", s.norm_eps},
                                {"softcap", s.softcap}}
      .dump();
}

// Attention with rotary positions slides; learned positions end.
std::int64_t TransformerArchitecture::context() const { return shape_.rotary ? Architecture::context() : shape_.context; }

// A table that is also the decoder has a gradient in every row, which row-wise RMSProp is not for.
std::vector<Optimizer> TransformerArchitecture::optimizers() const {
  if (shape_.tied) return {Optimizer::adamw};
  return {Optimizer::muon, Optimizer::adamw};
}

TransformerArchitecture::Rates TransformerArchitecture::rates(Optimizer optimizer) const {
  return {optimizer == Optimizer::adamw ? 1e-3 : 4e-3, 0.02};
}

std::vector<std::string> TransformerArchitecture::adaptable() const {
  if (shape_.gated()) return {"q", "k", "v", "o", "gate", "up", "down"};
  return {"q", "k", "v", "o", "up", "down"};
}

std::string TransformerArchitecture::huggingface_module(const std::string& matrix) const {
  constexpr std::array<std::pair<std::string_view, const char*>, 7> kModules = {{{"query.weight", "self_attn.q_proj"},
                                                                                 {"key.weight", "self_attn.k_proj"},
                                                                                 {"value.weight", "self_attn.v_proj"},
                                                                                 {"attention_output.weight", "self_attn.o_proj"},
                                                                                 {"gate.weight", "mlp.gate_proj"},
                                                                                 {"up.weight", "mlp.up_proj"},
                                                                                 {"down.weight", "mlp.down_proj"}}};
  const bool llama = shape_.norm == Norm::rms && shape_.rotary && shape_.gated() && !shape_.qk_norm && !shape_.embedding_norm;
  const std::size_t part = matrix.rfind('.', matrix.rfind('.') - 1) + 1;  // "layers.0." before it
  for (const auto& [own, theirs] : kModules)
    if (llama && matrix.starts_with("layers.") && std::string_view(matrix).substr(part) == own)
      return "model." + matrix.substr(0, part) + theirs;
  return "";
}

std::vector<Count> TransformerArchitecture::counts() const {
  return {{"parameters", shape_.parameters()}, {"layers", shape_.layers}};
}

std::string TransformerArchitecture::json() const { return to_json(shape_); }

std::unique_ptr<Trunk> TransformerArchitecture::trunk(Assembly& assembly) const {
  return std::make_unique<TransformerTrunk>(shape_, assembly);
}

// Heads of the same width, `units` of keys, and the same layers and ratios.
ArchitecturePtr TransformerArchitecture::in_proportion(std::int64_t units) const {
  TransformerShape to = shape_;
  to.key_value_heads = units;
  to.heads = units * (shape_.heads / shape_.key_value_heads);
  to.width = to.heads * shape_.head_width();
  to.hidden = static_cast<std::int64_t>(static_cast<double>(shape_.hidden) * static_cast<double>(to.width) /
                                        static_cast<double>(shape_.width));
  to.name = fmt::format("{}-{}", shape_.name, to.width);
  try {
    return std::make_shared<TransformerArchitecture>(parse_transformer(to_json(to), to.name));  // also validates it
  } catch (const Error&) {
    return nullptr;
  }
}

Family transformer_family() {
  const auto parse = [](std::string_view json, const std::string& where) -> ArchitecturePtr {
    return std::make_shared<TransformerArchitecture>(parse_transformer(json, where));
  };
  static constexpr Interchange kInterchange = {open_pretrained_transformer, parse_transformer_config, write_transformer_folder,
                                               write_transformer_gguf};
  return {"transformer",
          parse,
          {{"qwen2.5-0.5b", embedded_preset_qwen2_5_0_5b},
           {"smollm2-360m", embedded_preset_smollm2_360m},
           {"smollm2-135m", embedded_preset_smollm2_135m},
           {"gpt2", embedded_preset_gpt2},
           {"transformer-base", embedded_preset_transformer_base},
           {"transformer-small", embedded_preset_transformer_small},
           {"transformer-tiny", embedded_preset_transformer_tiny}},
          &kInterchange};
}

}  // namespace neurogen

#include "engine/transformer/huggingface_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "arena/error.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

using nlohmann::json;

constexpr std::size_t kLargestConfig = 1 << 20;                 // bytes
constexpr int kConfigLevels = 16;                               // of nesting, more than files have
constexpr std::int64_t kLargestNumber = std::int64_t{1} << 40;  // products of two fit 64 bits twice

class Config {
 public:
  Config(json object, const std::string& where) : object_(std::move(object)), where_(where) {}

  // Null if it is missing.
  json value(const char* key) const { return object_.value(key, json()); }
  bool has(const char* key) const { return !value(key).is_null(); }
  [[noreturn]] void fail(const char* key, const json& value, const std::string& supported) const {
    throw Error(fmt::format("{}: {} is {}: only {} is supported", where_, key, one_line(value.dump()), supported));
  }

  std::int64_t whole(const char* key, std::optional<std::int64_t> otherwise = {}) const {
    const json found = value(key);
    if (found.is_null()) {
      if (otherwise) return *otherwise;
      throw Error(fmt::format("{}: {} is missing: use a complete config.json", where_, key));
    }
    if (!found.is_number_unsigned() || found > kLargestNumber || found < 1) fail(key, found, "a whole number above 0");
    return found.get<std::int64_t>();
  }
  double real(const char* key, double otherwise) const { return real(key, value(key), otherwise); }
  double real(const char* key, const json& found, double otherwise) const {
    if (found.is_null()) return otherwise;
    if (!found.is_number()) fail(key, found, "a number");
    return found.get<double>();
  }
  bool flag(const char* key, bool otherwise) const {
    const json found = value(key);
    if (found.is_null()) return otherwise;
    if (!found.is_boolean()) fail(key, found, "true or false");
    return found.get<bool>();
  }
  // Throws unless the key is missing, null, or this.
  void only(const char* key, const json& supported) const {
    if (has(key) && value(key) != supported) fail(key, value(key), supported.dump());
  }
  // The frequencies' base. Throws for positions that are scaled or turn a part of a head.
  double rotary_theta() const {
    std::optional<double> theta;
    if (has("rope_theta")) theta = real("rope_theta", 0);
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      const json rope = value(key);
      if (rope.is_null()) continue;
      if (!rope.is_object()) fail(key, rope, "an object");
      for (const char* name : {"rope_type", "type"}) {  // before the numbers that scaling brings along
        if (const json type = rope.value(name, json("default")); type != "default")
          fail(fmt::format("{}.{}", key, name).c_str(), type, "\"default\"");
      }
      for (const auto& [name, found] : rope.items()) {
        const std::string full = fmt::format("{}.{}", key, one_line(name));
        if (name == "rope_type" || name == "type") continue;
        if (name == "partial_rotary_factor") {
          if (found != 1) fail(full.c_str(), found, "1");
        } else if (name == "rope_theta") {
          const double its = real(full.c_str(), found, 0);
          if (theta && *theta != its) fail(full.c_str(), found, fmt::format("rope_theta's {}", *theta));
          theta = its;
        } else {
          fail(full.c_str(), found, "rope_type, rope_theta and partial_rotary_factor");
        }
      }
    }
    return theta.value_or(10000);
  }

 private:
  json object_;
  const std::string& where_;
};

TransformerShape gpt2(const Config& config) {
  TransformerShape s;
  s.vocabulary = config.whole("vocab_size");
  s.width = config.whole("n_embd");
  s.layers = config.whole("n_layer");
  s.heads = s.key_value_heads = config.whole("n_head");
  s.hidden = config.whole("n_inner", 4 * s.width);
  s.context = config.whole("n_positions");
  s.norm = Norm::layer;
  s.rotary = false;
  s.activation = Activation::gelu_tanh;
  s.qkv_bias = s.bias = true;
  s.tied = config.flag("tie_word_embeddings", true);
  s.norm_eps = config.real("layer_norm_epsilon", 1e-5);
  const json activation = config.value("activation_function");
  if (!activation.is_null() && activation != "gelu_new" && activation != "gelu_pytorch_tanh")
    config.fail("activation_function", activation, "\"gelu_new\"");
  config.only("scale_attn_weights", true);
  config.only("scale_attn_by_inverse_layer_idx", false);
  config.only("add_cross_attention", false);
  return s;
}

// Llama, and Qwen2, which differs in biases.
TransformerShape llama(const Config& config, bool qwen2) {
  TransformerShape s;
  s.vocabulary = config.whole("vocab_size");
  s.width = config.whole("hidden_size");
  s.layers = config.whole("num_hidden_layers");
  s.heads = config.whole("num_attention_heads");
  s.key_value_heads = qwen2 ? config.whole("num_key_value_heads") : config.whole("num_key_value_heads", s.heads);
  s.hidden = config.whole("intermediate_size");
  s.context = config.whole("max_position_embeddings");
  s.norm = Norm::rms;
  s.rotary = true;
  s.rotary_theta = config.rotary_theta();
  s.activation = Activation::silu_gated;
  s.tied = config.flag("tie_word_embeddings", false);
  s.norm_eps = config.real("rms_norm_eps", 1e-6);
  if (const json head = config.value("head_dim"); !head.is_null() && s.width != s.heads * config.whole("head_dim"))
    config.fail("head_dim", head, "hidden_size / num_attention_heads");
  const json activation = config.value("hidden_act");
  if (!activation.is_null() && activation != "silu" && activation != "swish") config.fail("hidden_act", activation, "\"silu\"");
  for (const json& type : config.value("layer_types"))
    if (type != "full_attention") config.fail("layer_types", config.value("layer_types"), "\"full_attention\"");
  config.only("partial_rotary_factor", 1);
  if (qwen2) {
    s.qkv_bias = true;
    config.only("use_sliding_window", false);
    return s;
  }
  s.qkv_bias = config.flag("attention_bias", false);
  s.bias = config.flag("mlp_bias", false);
  if (s.qkv_bias != s.bias) config.fail("mlp_bias", s.bias, fmt::format("attention_bias's {}", s.qkv_bias));
  config.only("rope_interleaved", false);
  config.only("sliding_window", nullptr);
  return s;
}

}  // namespace

HuggingFaceConfig parse_huggingface_config(std::string_view text, const std::string& where) {
  if (text.size() > kLargestConfig) throw Error(where + ": it is larger than 1 MiB: use the config.json of a model");
  json object = parse_json(text, kConfigLevels, where);
  if (!object.is_object()) throw Error(where + ": it is not a JSON object: use the config.json of a model");
  const Config config(std::move(object), where);
  const json type = config.value("model_type");
  config.only("quantization_config", nullptr);
  HuggingFaceConfig found;
  if (type == "gpt2") found = {Kind::gpt2, gpt2(config)};
  else if (type == "llama") found = {Kind::llama, llama(config, false)};
  else if (type == "qwen2") found = {Kind::qwen2, llama(config, true)};
  else config.fail("model_type", type, "\"gpt2\", \"llama\" or \"qwen2\"");
  return found;
}

Kind kind_of(const TransformerShape& s) {
  const auto refuse = [&](const std::string& choice) -> Error {
    return Error(fmt::format("{} has {}, which Hugging Face's and llama.cpp's models have not: write it as safetensors of our own",
                             s.name, choice));
  };
  if (s.activation == Activation::relu2) throw refuse("the activation relu2");
  if (s.qk_norm) throw refuse("qk_norm");
  if (s.embedding_norm) throw refuse("embedding_norm");
  if (s.softcap != 0) throw refuse(fmt::format("a softcap of {}", s.softcap));
  if (s.norm == Norm::layer) {
    if (s.rotary) throw refuse("layer norms with rotary positions");
    if (s.activation != Activation::gelu_tanh) throw refuse("layer norms with silu_gated");
    if (!s.qkv_bias || !s.bias) throw refuse("layer norms without biases");
    if (s.key_value_heads != s.heads) throw refuse("layer norms with fewer heads of keys than of queries");
    return Kind::gpt2;
  }
  if (!s.rotary) throw refuse("norms of root mean squares with learned positions");
  if (s.activation != Activation::silu_gated) throw refuse("norms of root mean squares with gelu_tanh");
  if (s.bias && !s.qkv_bias) throw refuse("bias without qkv_bias");
  return s.qkv_bias && !s.bias ? Kind::qwen2 : Kind::llama;
}

namespace {

nlohmann::ordered_json token(std::int64_t id) { return id < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(id); }

}  // namespace

std::string generation_config(std::int64_t begin, std::span<const std::int64_t> ends) {
  return nlohmann::ordered_json{{"bos_token_id", token(begin)}, {"eos_token_id", ends}}.dump(2) + "\n";
}

std::string huggingface_config(const TransformerShape& s, const char* type, std::int64_t begin, std::int64_t end) {
  const Kind kind = kind_of(s);
  nlohmann::ordered_json config;
  const char* architecture = kind == Kind::gpt2 ? "GPT2LMHeadModel" : kind == Kind::llama ? "LlamaForCausalLM" : "Qwen2ForCausalLM";
  config["architectures"] = {architecture};
  config["model_type"] = name_of(kind);
  config["vocab_size"] = s.vocabulary;
  if (kind == Kind::gpt2) {
    config["n_positions"] = config["n_ctx"] = s.context;  // llama.cpp's converter reads n_ctx
    config["n_embd"] = s.width;
    config["n_layer"] = s.layers;
    config["n_head"] = s.heads;
    config["n_inner"] = s.hidden;
    config["activation_function"] = "gelu_new";
    config["layer_norm_epsilon"] = s.norm_eps;
  } else {
    config["hidden_size"] = s.width;
    config["intermediate_size"] = s.hidden;
    config["num_hidden_layers"] = s.layers;
    config["num_attention_heads"] = s.heads;
    config["num_key_value_heads"] = s.key_value_heads;
    config["head_dim"] = s.head_width();
    config["hidden_act"] = "silu";
    config["rms_norm_eps"] = s.norm_eps;
    config["max_position_embeddings"] = s.context;
    config["rope_theta"] = s.rotary_theta;                                                   // version 4 of transformers
    config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", s.rotary_theta}};  // version 5
    if (kind == Kind::llama) config["attention_bias"] = config["mlp_bias"] = s.bias;
    else config["use_sliding_window"] = false;
  }
  config["tie_word_embeddings"] = s.tied;
  config["bos_token_id"] = token(begin);
  config["eos_token_id"] = token(end);
  config["dtype"] = config["torch_dtype"] = type;
  return config.dump(2) + "\n";
}

}  // namespace neurogen

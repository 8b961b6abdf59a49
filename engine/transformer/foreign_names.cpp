#include "engine/transformer/foreign_names.h"

#include <fmt/format.h>

#include <array>

namespace neurogen {
namespace {

struct Names {
  const char *block, *attention_norm, *query_key_value, *query, *key, *value, *attention_output, *mlp_norm, *gate, *up, *down;
  const char *final_norm, *embedding, *positions, *head;
};
// clang-format off
constexpr Names kFolderGpt2 = {"h.{}.", "ln_1", "attn.c_attn", "", "", "", "attn.c_proj", "ln_2", "", "mlp.c_fc", "mlp.c_proj",
                               "ln_f", "wte", "wpe", "lm_head"};
constexpr Names kFolderLlama = {"layers.{}.", "input_layernorm", "", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                                "norm", "embed_tokens", "", "lm_head"};
constexpr Names kGguf = {"blk.{}.", "attn_norm", "attn_qkv", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate",
                         "ffn_up", "ffn_down", "output_norm", "token_embd", "position_embd", "output"};
// clang-format on

const Names& names_of(Kind kind, Format format) {
  if (format == Format::gguf) return kGguf;
  return kind == Kind::gpt2 ? kFolderGpt2 : kFolderLlama;
}

}  // namespace

const char* name_of(Kind kind) {
  constexpr std::array<const char*, 3> kNames = {"gpt2", "llama", "qwen2"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::int64_t ForeignTensor::rows() const {
  std::int64_t sum = 0;
  for (const Part& part : parts) sum += part.rows;
  return sum;
}

Shape ForeignTensor::shape() const {
  if (vector) return {rows()};
  return transposed ? Shape{columns, rows()} : Shape{rows(), columns};
}

std::int64_t ForeignTensor::row_in_file(std::int64_t row) const {
  if (turned_heads == 0) return row;
  const std::int64_t half = turned_heads / 2, in_head = row % turned_heads;
  return row - in_head + in_head % half * 2 + in_head / half;
}

std::int64_t ForeignTensor::row_in_parts(std::int64_t row) const {
  if (turned_heads == 0) return row;
  const std::int64_t half = turned_heads / 2, in_head = row % turned_heads;
  return row - in_head + in_head % 2 * half + in_head / 2;
}

std::vector<ForeignTensor> foreign_tensors(const TransformerShape& shape, Kind kind, Format format) {
  const Names& names = names_of(kind, format);
  const bool gpt2 = kind == Kind::gpt2, conv1d = gpt2 && format == Format::folder;
  const std::int64_t turned = kind == Kind::llama && format == Format::gguf ? shape.head_width() : 0;
  std::vector<ForeignTensor> list;
  using Parts = std::vector<ForeignTensor::Part>;
  const auto with = [](Parts parts, const char* suffix) {
    for (ForeignTensor::Part& part : parts) part.parameter += suffix;
    return parts;
  };
  const auto table = [&](const char* name, const char* parameter, std::int64_t rows) {
    list.push_back({std::string(name) + ".weight", {{parameter, rows}}, shape.width});
  };
  const auto norm = [&](const std::string& name, const std::string& ours) {
    list.push_back({name + ".weight", {{ours + ".gain", shape.width}}, 1, true});
    if (shape.norm == Norm::layer) list.push_back({name + ".bias", {{ours + ".bias", shape.width}}, 1, true});
  };
  const auto linear = [&](const std::string& name, const Parts& ours, std::int64_t in, bool bias, std::int64_t turned_heads = 0) {
    list.push_back({name + ".weight", with(ours, ".weight"), in, false, conv1d, turned_heads});
    if (bias) list.push_back({name + ".bias", with(ours, ".bias"), 1, true, false, turned_heads});
  };
  table(names.embedding, "embedding.weight", shape.vocabulary);
  if (!shape.rotary) table(names.positions, "positions.weight", shape.context);
  for (std::int64_t l = 0; l < shape.layers; ++l) {
    const std::string theirs = fmt::format(fmt::runtime(names.block), l), ours = fmt::format("layers.{}.", l);
    const Parts query = {{ours + "query", shape.width}}, key = {{ours + "key", shape.key_width()}},
                value = {{ours + "value", shape.key_width()}};
    norm(theirs + names.attention_norm, ours + "attention_norm");
    if (gpt2) {
      linear(theirs + names.query_key_value, {query[0], key[0], value[0]}, shape.width, shape.qkv_bias);
    } else {
      linear(theirs + names.query, query, shape.width, shape.qkv_bias, turned);
      linear(theirs + names.key, key, shape.width, shape.qkv_bias, turned);
      linear(theirs + names.value, value, shape.width, shape.qkv_bias);
    }
    linear(theirs + names.attention_output, {{ours + "attention_output", shape.width}}, shape.width, shape.bias);
    norm(theirs + names.mlp_norm, ours + "mlp_norm");
    if (!gpt2) linear(theirs + names.gate, {{ours + "gate", shape.hidden}}, shape.width, shape.bias);
    linear(theirs + names.up, {{ours + "up", shape.hidden}}, shape.width, shape.bias);
    linear(theirs + names.down, {{ours + "down", shape.width}}, shape.hidden, shape.bias);
  }
  norm(names.final_norm, "final_norm");
  if (!shape.tied) table(names.head, "decoder.weight", shape.vocabulary);
  return list;
}

const char* head_name(Format format) { return format == Format::gguf ? "output.weight" : "lm_head.weight"; }

const char* embedding_name(Kind kind, Format format) {
  return format == Format::gguf ? "token_embd.weight" : kind == Kind::gpt2 ? "wte.weight" : "embed_tokens.weight";
}

std::string body_prefix(Kind kind) { return kind == Kind::gpt2 ? "transformer." : "model."; }

bool is_harmless(Kind kind, const std::string& name) {
  if (kind == Kind::gpt2) return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");  // the causal mask
  return name.ends_with(".rotary_emb.inv_freq");
}

}  // namespace neurogen

#include "engine/transformer/trunk.h"

#include <fmt/format.h>

#include <cmath>

#include "arena/error.h"
#include "engine/model/head.h"

namespace neurogen {
namespace {

// Throws Error for a shape that the CUDA kernels do not support.
void require_gpu_takes(const TransformerShape& shape) {
  const auto refuse = [](const std::string& what) {
    throw Error({what + ": use ", Field("device"), " cpu or another ", Field("architecture")});
  };
  const std::int64_t head = shape.head_width();
  if (head % 16 != 0 || head > 128) {
    refuse(fmt::format("a head is {} wide (width {}, heads {}), a GPU takes multiples of 16 up to 128", head, shape.width,
                       shape.heads));
  }
  if (shape.width > 8192) refuse(fmt::format("a width of {} is too large for a GPU, which takes up to 8192", shape.width));
}

}  // namespace

TransformerTrunk::TransformerTrunk(const TransformerShape& shape, Assembly& assembly)
    : s_(assembly), shape_(shape), adamw_(gathers_decoder(*assembly.model.architecture, assembly.options)) {
  if (assembly.options.target.gpu) require_gpu_takes(shape);
}

TransformerTrunk::NormIds TransformerTrunk::declare_norm(const std::string& name) {
  NormIds ids;
  ids.gain = s_.parameter({name + ".gain", {shape_.width}, UpdateRule::adamw, constant(1)});
  if (shape_.norm == Norm::layer) ids.bias = s_.parameter({name + ".bias", {shape_.width}, UpdateRule::adamw, constant(0)});
  return ids;
}

TransformerTrunk::LinearIds TransformerTrunk::declare_linear(const std::string& name, std::int64_t out, std::int64_t in,
                                                             double deviation, bool bias) {
  LinearIds ids;
  const UpdateRule rule = adamw_ ? UpdateRule::adamw : UpdateRule::muon;
  ids.weight = s_.parameter({name + ".weight", {out, in}, rule, normals(deviation), true, kMatrixDecay});
  ids.biased = bias;
  if (bias) ids.bias = s_.parameter({name + ".bias", {out}, UpdateRule::adamw, constant(0)});
  return ids;
}

// With normed queries and keys, matrices begin at N(0, 1 / in), and what writes into the stream near zero; without, as in GPT-2: at
// 0.02, what writes into the stream at 0.02 / sqrt(2 L).
void TransformerTrunk::declare_parameters() {
  const TransformerShape& a = shape_;
  const bool modern = a.qk_norm;
  const double into = modern ? 1 / std::sqrt(static_cast<double>(a.width)) : 0.02;
  const double back = modern ? 1e-3 : 0.02 / std::sqrt(2 * static_cast<double>(a.layers));
  embedding_ = s_.parameter({"embedding.weight",
                             {a.vocabulary, a.width},
                             adamw_ ? UpdateRule::adamw : UpdateRule::rowwise_rmsprop,
                             normals(modern ? 0.25 : 0.02),
                             a.tied});  // the head's products read it
  if (!a.rotary) {
    positions_ = s_.parameter({"positions.weight", {a.context, a.width}, UpdateRule::adamw, normals(0.01)});
  }
  for (std::int64_t l = 0; l < a.layers; ++l) {
    const std::string name = "layers." + std::to_string(l) + ".";
    LayerIds& ids = layers_.emplace_back();
    ids.attention_norm = declare_norm(name + "attention_norm");
    ids.query = declare_linear(name + "query", a.width, a.width, into, a.qkv_bias);
    ids.key = declare_linear(name + "key", a.key_width(), a.width, into, a.qkv_bias);
    ids.value = declare_linear(name + "value", a.key_width(), a.width, into, a.qkv_bias);
    ids.attention_output = declare_linear(name + "attention_output", a.width, a.width, back, a.bias);
    ids.mlp_norm = declare_norm(name + "mlp_norm");
    if (a.gated()) ids.gate = declare_linear(name + "gate", a.hidden, a.width, into, a.bias);
    ids.up = declare_linear(name + "up", a.hidden, a.width, into, a.bias);
    ids.down = declare_linear(name + "down", a.width, a.hidden, back, a.bias);
  }
  final_norm_ = declare_norm("final_norm");
}

TransformerTrunk::Columns TransformerTrunk::whole(TensorId id) const { return {id, 0, s_.graph.tensors()[id.index].shape[1]}; }

TransformerTrunk::QkvColumns TransformerTrunk::parts_of(TensorId qkv) const {
  const std::int64_t q = shape_.width, k = shape_.key_width();
  return {{qkv, 0, q}, {qkv, q, k}, {qkv, q + k, k}};
}

void TransformerTrunk::multiply(const std::string& name, Columns a, Transpose transpose_a, Columns b, Transpose transpose_b,
                                Columns c, double beta) {
  const auto rows = [&](Columns x) { return s_.graph.tensors()[x.id.index].shape[0]; };
  const std::int64_t m = rows(c), k = transpose_a == Transpose::yes ? rows(a) : a.count;
  s_.graph.operation(
      name, {a.id, b.id}, {c.id},
      [=](auto& device, const Bindings& at) {
        const auto columns = [&](Columns x) { return at[x.id].columns(x.begin, x.count); };
        matmul(device, {columns(a), columns(b), columns(c), transpose_a, transpose_b, beta});
      },
      s_.product_cost(1, m, c.count, k));
}

}  // namespace neurogen

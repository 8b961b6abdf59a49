// Backward pass, from the gradient of the features to every parameter. The gradient of the stream stays in one tensor, to which
// each norm adds its own; what reads a norm's output gets it computed once more. Of blocks that the schedule computes twice, only
// the input is kept.
#include "engine/model/embedding.h"
#include "engine/model/update.h"
#include "engine/transformer/trunk.h"
#include "kernels/heads.h"
#include "kernels/token_embedding.h"

namespace neurogen {

void TransformerTrunk::backward(TensorId d_features) {
  const Shape shape = {tokens(), shape_.width};
  d_stream_.d_y = d_stream_.d_branch = s_.graph.transient("d_stream", s_.gradient, shape);
  if (s_.gradient != s_.compute) d_stream_.d_branch = s_.graph.transient("d_branch", s_.compute, shape);
  norm_backward("d_final_norm", final_norm_, final_state_, d_features, true, false, &layers_.back().down);
  for (std::size_t l = layers_.size(); l-- > 0;) {
    if (computed_twice(l)) compute_again(l);
    mlp_backward(l);
    attention_backward(l);
    update_known(s_);
  }
  embedding_backward();
}

// From a block's input to all that its backward pass reads, which is less than its output: the last product is left out.
void TransformerTrunk::compute_again(std::size_t layer) {
  const LayerIds& ids = layers_[layer];
  const std::string name = "again.layers." + std::to_string(layer) + ".";
  Stream stream{kept_[layer].attention_norm.y, {}, {}};
  LayerState state;
  const TensorId to_attention = normed(name + "attention_norm", ids.attention_norm, stream, true, state.attention_norm);
  attend(name, ids, to_attention, state, stream);
  const TensorId to_mlp = normed(name + "mlp_norm", ids.mlp_norm, stream, true, state.mlp_norm);
  hidden(name, ids, to_mlp, state);
  kept_[layer] = state;
}

// Adds to the stream's gradient (first: writes it). again: leaves the norm's output in d_out. branch: the matrix whose product was
// added to the stream before this norm.
void TransformerTrunk::norm_backward(const std::string& name, const NormIds& ids, const NormState& state, TensorId d_out,
                                     bool first, bool again, const LinearIds* branch) {
  const Norm norm = shape_.norm;
  const TensorId y = state.y, mean = state.mean, inverse = state.inverse, d_y = d_stream_.d_y, d_branch = d_stream_.d_branch;
  const TensorId gain = s_.value(ids.gain), bias = bias_of(ids), copy = d_branch.index == d_y.index ? TensorId{} : d_branch;
  const TensorId d_gain = s_.declare_gradient(ids.gain), d_bias = bias ? s_.declare_gradient(ids.bias) : TensorId{};
  const TensorId d_branch_bias = branch ? d_bias_of(*branch) : TensorId{}, normed = again ? d_out : TensorId{};
  const TensorId sums = s_.graph.transient(name + ".sums", s_.real, {row_parts(tokens()), 3 * shape_.width});
  s_.graph.operation(name, {y, mean, inverse, gain, bias, d_out}, {d_y, copy, normed, d_gain, d_bias, d_branch_bias, sums},
                     [=](auto& device, const Bindings& at) {
                       residual_norm_backward(
                           device, {norm, at[y], at[mean], at[inverse], at[gain], at[bias], at[d_out], at[d_y], first, at[copy],
                                    at[normed], at[d_gain], at[d_bias], at[d_branch_bias], at[sums]});
                     });
}

void TransformerTrunk::mlp_backward(std::size_t layer) {
  const LayerIds& ids = layers_[layer];
  const LayerState& state = kept_[layer];
  const std::string name = "layers." + std::to_string(layer) + ".d_";
  const TensorId d_branch = d_stream_.d_branch, up = state.up, gate = state.gate;
  const TensorId d_up = s_.graph.transient(name + "up", s_.compute, {tokens(), shape_.hidden});
  linear_backward(name + "active", ids.down, whole(d_branch), whole(d_up), 0);
  const TensorId up_bias = bias_of(ids.up), gate_bias = bias_of(ids.gate), d_up_bias = d_bias_of(ids.up),
                 d_gate_bias = d_bias_of(ids.gate);
  const TensorId sums =
      d_up_bias ? s_.graph.transient(name + "up.sums", s_.real, {row_parts(tokens()), 2 * shape_.hidden}) : TensorId{};
  const Activation activation = shape_.activation;
  // From here on `up` holds the hidden layer's output, and `gate` its own gradient.
  s_.graph.operation(
      name + "up", {up_bias, gate_bias}, {up, gate, d_up, d_up_bias, d_gate_bias, sums}, [=](auto& device, const Bindings& at) {
        activation_backward(
            device, {activation, at[up], at[gate], at[up_bias], at[gate_bias], at[d_up], at[d_up_bias], at[d_gate_bias], at[sums]});
      });
  weight_gradient(name + "down.weight", ids.down, whole(d_branch), up);
  const TensorId d_normed = s_.graph.transient(name + "mlp_norm", s_.compute, {tokens(), shape_.width});
  linear_backward(name + "mlp_norm.up", ids.up, whole(d_up), whole(d_normed), 0);
  if (gate) linear_backward(name + "mlp_norm.gate", ids.gate, whole(gate), whole(d_normed), 1);
  norm_backward(name + "mlp_norm", ids.mlp_norm, state.mlp_norm, d_normed, false, true, &ids.attention_output);
  weight_gradient(name + "up.weight", ids.up, whole(d_up), d_normed);
  if (gate) weight_gradient(name + "gate.weight", ids.gate, whole(gate), d_normed);
}

void TransformerTrunk::attention_backward(std::size_t layer) {
  const LayerIds& ids = layers_[layer];
  const LayerState& state = kept_[layer];
  const std::string name = "layers." + std::to_string(layer) + ".d_";
  const HeadCounts heads{shape_.heads, shape_.key_value_heads};
  const std::int64_t window = s_.options.window;
  const TensorId d_branch = d_stream_.d_branch, qkv = state.qkv, mixed = state.mixed, sum = state.log_sum_exp, first = first_;
  const TensorId d_mixed = s_.graph.transient(name + "attention", s_.compute, {tokens(), shape_.width});
  linear_backward(name + "attention_output", ids.attention_output, whole(d_branch), whole(d_mixed), 0);
  weight_gradient(name + "attention_output.weight", ids.attention_output, whole(d_branch), mixed);

  const TensorId d_qkv = s_.graph.transient(name + "qkv", s_.compute, {tokens(), shape_.qkv_width()});
  const TensorId dot = s_.graph.transient(name + "attention.dot", s_.real, {heads.queries, tokens()});
  const TensorId scratch = s_.scratch(name + "attention", causal_attention_scratch(window));
  const QkvColumns parts = parts_of(qkv), d_parts = parts_of(d_qkv);
  const auto n = static_cast<double>(tokens()), width = static_cast<double>(shape_.width);
  s_.graph.operation(
      name + "attention", {qkv, first, mixed, sum, d_mixed}, {d_qkv, dot, scratch},
      [=](auto& device, const Bindings& at) {
        const auto columns = [&](Columns x) { return at[x.id].columns(x.begin, x.count); };
        causal_attention_backward(
            device, {heads, columns(parts.query), columns(parts.key), columns(parts.value), at[first], window, at[mixed], at[sum],
                     at[d_mixed], columns(d_parts.query), columns(d_parts.key), columns(d_parts.value), at[dot], at[scratch]});
      },
      {5 * n * static_cast<double>(window) * width, s_.element_bytes * n * 2 * (width + static_cast<double>(shape_.qkv_width()))});

  if (shape_.qkv_bias || shape_.qk_norm || table_) {
    const TensorId table = table_, inverse = state.inverse, query = d_bias_of(ids.query), key = d_bias_of(ids.key),
                   value = d_bias_of(ids.value);
    const TensorId sums =
        query ? s_.graph.transient(name + "heads.sums", s_.real, {row_parts(tokens()), shape_.qkv_width()}) : TensorId{};
    s_.graph.operation(
        name + "heads", {table, inverse, qkv}, {d_qkv, query, key, value, sums}, [=](auto& device, const Bindings& at) {
          heads_backward(device, {heads, at[table], at[inverse], at[qkv], at[d_qkv], at[query], at[key], at[value], at[sums]});
        });
  }
  const TensorId d_normed = s_.graph.transient(name + "attention_norm", s_.compute, {tokens(), shape_.width});
  linear_backward(name + "attention_norm.query", ids.query, d_parts.query, whole(d_normed), 0);
  linear_backward(name + "attention_norm.key", ids.key, d_parts.key, whole(d_normed), 1);
  linear_backward(name + "attention_norm.value", ids.value, d_parts.value, whole(d_normed), 1);
  norm_backward(name + "attention_norm", ids.attention_norm, state.attention_norm, d_normed, false, true,
                layer > 0 ? &layers_[layer - 1].down : nullptr);
  weight_gradient(name + "query.weight", ids.query, d_parts.query, d_normed);
  weight_gradient(name + "key.weight", ids.key, d_parts.key, d_normed);
  weight_gradient(name + "value.weight", ids.value, d_parts.value, d_normed);
}

void TransformerTrunk::embedding_backward() {
  const auto [ids, places, out, inverse] = embedded_;
  const TensorId d_x = d_stream_.d_y;
  if (s_.model.parameters[embedding_].rule == UpdateRule::none) return;
  if (inverse) {
    s_.graph.operation("d_embedding", {out, inverse}, {d_x}, [=, out = out, inverse = inverse](auto& device, const Bindings& at) {
      token_embedding_backward(device, {at[out], at[inverse], at[d_x]});
    });
  }
  std::vector<LookUp> tables = {{embedding_, ids}};
  if (places) tables.push_back({positions_, places});
  add_table_gradients(s_, d_x, tables);
}

}  // namespace neurogen

// Forward pass from token ids to the features of the last norm, for whole windows and for a stream's single tokens.
#include "engine/transformer/trunk.h"
#include "kernels/copy.h"
#include "kernels/heads.h"
#include "kernels/token_embedding.h"

namespace neurogen {

TensorId TransformerTrunk::forward(const Batch& batch, const std::string& prefix, bool training) {
  first_ = batch.first;
  evaluating_ = !training && ring_ == 0;
  table_ = {};
  if (shape_.rotary) {
    const std::int64_t rows = ring_ > 0 ? 1 : s_.options.window;
    const TensorId table = table_ = s_.graph.transient(prefix + "rotary", s_.real, {rows, shape_.head_width()});
    const TensorId position = position_;
    const double theta = shape_.rotary_theta;
    s_.graph.operation(prefix + "rotary", {position}, {table}, [=](auto& device, const Bindings& at) {
      rotary_table(device, {theta, position ? at[position].rows(0, 1) : TensorView{}, at[table]});
    });
  }
  Stream stream{embed(batch, prefix), {}, {}};
  kept_.assign(layers_.size(), {});
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const std::string name = prefix + "layers." + std::to_string(l) + ".";
    LayerState& state = kept_[l];
    const TensorId to_attention =
        normed(name + "attention_norm", layers_[l].attention_norm, stream, training, state.attention_norm);
    attend(name, layers_[l], to_attention, state, stream);
    const TensorId to_mlp = normed(name + "mlp_norm", layers_[l].mlp_norm, stream, training, state.mlp_norm);
    hidden(name, layers_[l], to_mlp, state);
    mlp(name, layers_[l], state, stream, training && !computed_twice(l));
  }
  return normed(prefix + "final_norm", final_norm_, stream, training, final_state_);
}

TensorId TransformerTrunk::embed(const Batch& batch, const std::string& prefix) {
  const TensorId ids = batch.ids, first = first_, position = position_, weight = s_.value(embedding_);
  const std::int64_t window = s_.options.window, most = shape_.context - 1;
  const double epsilon = shape_.norm_eps;
  TensorId places, positions, inverse;
  if (!shape_.rotary) {
    positions = s_.value(positions_);
    places = s_.graph.transient(prefix + "embedding.places", DType::i32, {tokens()});
    s_.graph.operation(prefix + "embedding.places", {first, position}, {places}, [=](auto& device, const Bindings& at) {
      token_places(device, {at[first], window, at[position], most, at[places]});
    });
  }
  const TensorId out = s_.graph.transient(prefix + "embedding.output", s_.gradient, {tokens(), shape_.width});
  if (shape_.embedding_norm) inverse = s_.graph.transient(prefix + "embedding.scale", s_.real, {tokens()});
  s_.graph.operation(prefix + "embedding", {ids, weight, places, positions}, {out, inverse}, [=](auto& device, const Bindings& at) {
    token_embedding_forward(device, {at[ids], at[weight], at[places], at[positions], epsilon, at[out], at[inverse]});
  });
  embedded_ = {ids, places, out, inverse};
  return out;
}

// Adds the stream's latest branch and returns the norm of the sum, [N, D]. keep: the stream before it stays for the backward pass.
TensorId TransformerTrunk::normed(const std::string& name, const NormIds& ids, Stream& stream, bool keep, NormState& state) {
  const bool layer = shape_.norm == Norm::layer;
  const Norm norm = shape_.norm;
  const double epsilon = shape_.norm_eps;
  const TensorId x = stream.x, branch = stream.branch, branch_bias = bias_of(stream.of);
  const TensorId y = !branch || !keep ? x : s_.graph.transient(name + ".stream", s_.gradient, {tokens(), shape_.width});
  const TensorId mean = layer ? s_.graph.transient(name + ".mean", s_.real, {tokens()}) : TensorId{};
  const TensorId inverse = s_.graph.transient(name + ".scale", s_.real, {tokens()});
  const TensorId out = s_.graph.transient(name + ".output", s_.compute, {tokens(), shape_.width});
  const TensorId gain = s_.value(ids.gain), bias = bias_of(ids), sum = branch ? y : TensorId{};
  s_.graph.operation(name, {x, branch, branch_bias, gain, bias}, {sum, mean, inverse, out}, [=](auto& device, const Bindings& at) {
    residual_norm_forward(
        device, {norm, epsilon, at[x], at[branch], at[branch_bias], at[sum], at[gain], at[bias], at[out], at[mean], at[inverse]});
  });
  state = {y, mean, inverse};
  stream = {y, {}, {}};
  return out;
}

void TransformerTrunk::attend(const std::string& name, const LayerIds& ids, TensorId normed, LayerState& state, Stream& stream) {
  const TensorId qkv = state.qkv = s_.graph.transient(name + "qkv", s_.compute, {tokens(), shape_.qkv_width()});
  const QkvColumns parts = parts_of(qkv);
  linear(name + "query", ids.query, whole(normed), parts.query);
  linear(name + "key", ids.key, whole(normed), parts.key);
  linear(name + "value", ids.value, whole(normed), parts.value);
  const HeadCounts heads{shape_.heads, shape_.key_value_heads};
  if (shape_.qk_norm) state.inverse = s_.graph.transient(name + "heads.scale", s_.real, {tokens(), heads.queries + heads.keys});
  if (shape_.qkv_bias || shape_.qk_norm || table_) {
    const TensorId inverse = state.inverse, table = table_, query = bias_of(ids.query), key = bias_of(ids.key),
                   value = bias_of(ids.value);
    const double epsilon = shape_.norm_eps;
    s_.graph.operation(name + "heads", {query, key, value, table}, {inverse, qkv}, [=](auto& device, const Bindings& at) {
      heads_forward(device, {heads, at[query], at[key], at[value], at[table], epsilon, at[inverse], at[qkv]});
    });
  }
  attention(name, state);
  const TensorId branch = s_.graph.transient(name + "attention_output", s_.compute, {tokens(), shape_.width});
  linear(name + "attention_output", ids.attention_output, whole(state.mixed), whole(branch));
  stream.branch = branch, stream.of = ids.attention_output;
}

void TransformerTrunk::attention(const std::string& name, LayerState& state) {
  const TensorId qkv = state.qkv,
                 mixed = state.mixed = s_.graph.transient(name + "attention", s_.compute, {tokens(), shape_.width});
  const HeadCounts heads{shape_.heads, shape_.key_value_heads};
  const QkvColumns parts = parts_of(qkv);
  const auto columns = [](const Bindings& at, Columns x) { return at[x.id].columns(x.begin, x.count); };
  if (ring_ > 0) {
    const TensorId keys = s_.state(name + "keys", s_.compute, {tokens(), ring_, shape_.key_width()}),
                   values = s_.state(name + "values", s_.compute, {tokens(), ring_, shape_.key_width()}), position = position_;
    const TensorId sums = s_.options.target.gpu ? s_.graph.transient(name + "attention.parts", s_.real,
                                                                     {tokens(), heads.queries, kStepParts, shape_.head_width() + 2})
                                                : TensorId{};
    s_.graph.operation(name + "attention", {qkv, position}, {keys, values, mixed, sums}, [=](auto& device, const Bindings& at) {
      causal_attention_step(device, {heads, columns(at, parts.query), columns(at, parts.key), columns(at, parts.value), at[keys],
                                     at[values], at[position].rows(0, 1), at[position].rows(1, 1), at[mixed], at[sums]});
    });
    return;
  }
  const std::int64_t window = s_.options.window;
  const TensorId sums = state.log_sum_exp = s_.graph.transient(name + "attention.log_sum_exp", s_.real, {heads.queries, tokens()});
  const TensorId scratch = s_.scratch(name + "attention", causal_attention_scratch(window)), first = first_;
  // Half of the scores are above the diagonal and are not computed.
  const auto n = static_cast<double>(tokens()), width = static_cast<double>(shape_.width);
  s_.graph.operation(
      name + "attention", {qkv, first}, {mixed, sums, scratch},
      [=](auto& device, const Bindings& at) {
        causal_attention_forward(device, {heads, columns(at, parts.query), columns(at, parts.key), columns(at, parts.value),
                                          at[first], window, at[mixed], at[sums], at[scratch]});
      },
      {2 * n * static_cast<double>(window) * width, s_.element_bytes * n * (width + static_cast<double>(shape_.qkv_width()))});
}

void TransformerTrunk::hidden(const std::string& name, const LayerIds& ids, TensorId normed, LayerState& state) {
  const auto layer = [&](const char* part, const LinearIds& of) {
    const TensorId out = s_.graph.transient(name + part, s_.compute, {tokens(), shape_.hidden});
    linear(name + part, of, whole(normed), whole(out));
    return out;
  };
  state.gate = shape_.gated() ? layer("gate", ids.gate) : TensorId{};
  state.up = layer("up", ids.up);
}

void TransformerTrunk::mlp(const std::string& name, const LayerIds& ids, LayerState& state, Stream& stream, bool keep) {
  const TensorId up = state.up, gate = state.gate;
  const TensorId active = keep ? s_.graph.transient(name + "active", s_.compute, {tokens(), shape_.hidden}) : up;
  const TensorId up_bias = bias_of(ids.up), gate_bias = bias_of(ids.gate), aside = keep ? up : TensorId{};
  const Activation activation = shape_.activation;
  s_.graph.operation(name + "active", {aside, gate, up_bias, gate_bias}, {active}, [=](auto& device, const Bindings& at) {
    activation_forward(device, {activation, at[up], at[gate], at[up_bias], at[gate_bias], at[active]});
  });
  if (evaluating_) {  // how much of the hidden layer is alive
    const std::string layer = "layers." + std::to_string(s_.model.probes.size());
    s_.model.probes.push_back({layer, s_.graph.operations().size(), active, {}, {}});
  }
  const TensorId branch = s_.graph.transient(name + "down", s_.compute, {tokens(), shape_.width});
  linear(name + "down", ids.down, whole(active), whole(branch));
  stream.branch = branch, stream.of = ids.down;
}

TensorId TransformerTrunk::step(const std::string& prefix, std::int64_t ring) {
  ring_ = ring;
  const TensorId host = s_.model.ports.position, position = position_ = s_.graph.transient(prefix + "position", DType::i64, {2});
  s_.graph.operation(prefix + "position", {host}, {position},
                     [=](auto& device, const Bindings& at) { copy(device, at[host], at[position]); });
  return forward(s_.read_batch(prefix, s_.model.ports.token, false, false), prefix, false);
}

}  // namespace neurogen

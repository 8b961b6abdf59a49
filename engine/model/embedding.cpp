#include "engine/model/embedding.h"

#include <algorithm>

#include "engine/model/exchange.h"
#include "kernels/copy.h"
#include "kernels/embedding.h"

namespace neurogen {
namespace {

EmbeddingRows rows_at(const Bindings& at, TensorId ids, TensorId weight, TensorId pair_rows, TensorId pairs) {
  return {at[ids], at[weight], at[pair_rows], at[pairs]};
}

bool by_rows(const Parameter& table) { return table.rule == UpdateRule::rowwise_rmsprop; }

void add_table_gradient(Assembly& s, ParameterId id, TensorId ids, TensorId d_x, double scale) {
  Parameter& table = s.model.parameters[id];
  const std::int64_t n = s.graph.tensors()[ids.index].shape[0], rows = table.shape[0], most = std::min(n, rows);
  if (table.rule == UpdateRule::none) return;
  const bool whole = !by_rows(table);
  const auto list = [&](const char* part, std::int64_t count) {
    return s.graph.transient("d_" + table.name + "." + part, DType::i32, {count});
  };
  const TensorId histogram = s.options.target.gpu ? TensorId{} : list("histogram", rows);
  const TensorId row_start = list("row_start", most + 1), order = list("order", n);
  const TensorId touched = list("rows", most), count = list("count", 1);
  if (whole && !table.gradient) {
    const TensorId gradient = s.declare_gradient(id);
    s.graph.operation("d_" + table.name + ".clear", {}, {gradient},
                      [=](auto& device, const Bindings& at) { clear(device, at[gradient]); });
  }
  if (!whole) {
    table.gradient = s.graph.transient("d_" + table.name, s.real, {most, table.shape[1]});
    table.touched = {touched, count};
  }
  s.graph.operation("d_" + table.name + ".rows", {ids}, {histogram, touched, row_start, order, count},
                    [=](auto& device, const Bindings& at) {
                      touched_rows(device, {at[ids], rows, at[histogram], at[touched], at[row_start], at[order], at[count]});
                    });
  const TensorId gradient = table.gradient, into = whole ? touched : TensorId{};
  s.graph.operation("d_" + table.name, {d_x, row_start, order, count, into}, {gradient}, [=](auto& device, const Bindings& at) {
    row_gradients(device, {at[d_x], at[row_start], at[order], at[count], scale, at[gradient], at[into]});
  });
}

}  // namespace

void add_table_gradients(Assembly& s, TensorId d_x, const std::vector<LookUp>& tables) {
  std::vector<TensorId> exchanged;
  for (const LookUp& t : tables)
    if (by_rows(s.model.parameters[t.table])) exchanged.push_back(t.ids);
  if (!exchanged.empty()) exchanged.push_back(d_x);
  const std::vector<TensorId> all = of_all_ranks(s, "d_tables", exchanged);
  auto ids = all.begin();
  for (const LookUp& t : tables) {
    if (by_rows(s.model.parameters[t.table])) add_table_gradient(s, t.table, *ids++, all.back(), t.scale);
    else add_table_gradient(s, t.table, t.ids, d_x, t.scale);
  }
}

Embedding::Embedding(Assembly& assembly, std::int64_t width, std::int64_t pairs) : s_(assembly), width_(width), pairs_(pairs) {}

void Embedding::declare_parameters() {
  const std::int64_t vocabulary = s_.model.architecture->vocabulary();
  weight_ = s_.parameter({"embedding.weight", {vocabulary, width_}, UpdateRule::rowwise_rmsprop, normals(0.25)});
  if (pairs_ > 0) pair_table_ = s_.parameter({"embedding.pairs", {pairs_, width_}, UpdateRule::rowwise_rmsprop, constant(0)});
  gain_ = s_.parameter({"embedding.gain", {width_}, UpdateRule::adamw, constant(1)});
}

TensorId Embedding::forward(const Batch& batch, const std::string& prefix, bool stream) {
  const std::int64_t n = s_.options.tokens();
  const TensorId ids = ids_ = batch.ids, weight = s_.value(weight_), table = pairs(), gain = s_.value(gain_);
  pair_rows_ = {};
  if (table) {
    pair_rows_ = s_.graph.transient(prefix + "embedding.pair_rows", DType::i32, {n});
    const TensorId last = stream ? s_.state("embedding.last", DType::i32, {1}) : TensorId{};  // the token before this one
    const TensorId first = batch.first, rows = pair_rows_;
    const std::int64_t window = s_.options.window, count = pairs_;
    s_.graph.operation(prefix + "embedding.pair_rows", {ids, first}, {rows, last}, [=](auto& device, const Bindings& at) {
      pair_rows(device, {at[ids], at[first], window, count, at[last], at[rows]});
    });
  }
  const TensorId out = s_.graph.transient(prefix + "embedding.output", s_.compute, {n, width_});
  const TensorId scale = scale_ = s_.graph.transient(prefix + "embedding.scale", s_.real, {n}), rows = pair_rows_;
  s_.graph.operation(prefix + "embedding", {ids, weight, rows, table, gain}, {out, scale}, [=](auto& device, const Bindings& at) {
    embedding_forward(device, {rows_at(at, ids, weight, rows, table), at[gain], at[out], at[scale]});
  });
  return out;
}

void Embedding::backward(TensorId d_output) {
  const TensorId ids = ids_, weight = s_.value(weight_), rows = pair_rows_, table = pairs(), gain = s_.value(gain_), scale = scale_;
  const TensorId d_gain = s_.declare_gradient(gain_);
  s_.graph.operation(
      "d_embedding", {ids, weight, rows, table, gain, scale}, {d_output, d_gain}, [=](auto& device, const Bindings& at) {
        embedding_backward(device, {rows_at(at, ids, weight, rows, table), at[gain], at[scale], at[d_output], at[d_gain]});
      });
  std::vector<LookUp> tables = {{weight_, ids}};
  if (table) tables.push_back({pair_table_, rows, kPairScale});
  add_table_gradients(s_, d_output, tables);
}

}  // namespace neurogen

// The embedding and its pair table: forward pass, and the gradients of the rows that a batch touches.
#include "kernels/embedding.h"

#include <algorithm>

#include "engine/brain/builder.h"

namespace neurogen {
namespace {

EmbeddingRows rows_at(const Bindings& at, TensorId ids, TensorId weight, TensorId pair_rows, TensorId pairs) {
  return {at[ids], at[weight], at[pair_rows], at[pairs]};
}

}  // namespace

void Builder::forward_embedding(Activations& a, const std::string& prefix) {
  const std::int64_t n = options_.tokens();
  const TensorId ids = a.ids, weight = embedding_weight_, pairs = embedding_pairs_, gain = embedding_gain_;
  if (pairs) {
    a.pair_rows = graph_.transient(prefix + "embedding.pair_rows", DType::i32, {n});
    TensorId last;
    if (ring_ > 0) {  // a stream's token before this one
      last = graph_.tensor("embedding.last", DType::i32, {1}, BufferKind::derived);
      brain_.state.push_back(last);
    }
    const TensorId first = a.first, rows = a.pair_rows;
    const std::int64_t window = options_.window, table = architecture_.pairs;
    graph_.operation(prefix + "embedding.pair_rows", {ids, first}, {rows, last}, [=](auto& device, const Bindings& at) {
      pair_rows(device, {at[ids], at[first], window, table, at[last], at[rows]});
    });
  }
  a.embedding = graph_.transient(prefix + "embedding.output", compute_, {n, architecture_.embedding});
  a.embedding_scale = graph_.transient(prefix + "embedding.scale", real_, {n});
  const TensorId rows = a.pair_rows, out = a.embedding, scale = a.embedding_scale;
  graph_.operation(prefix + "embedding", {ids, weight, rows, pairs, gain}, {out, scale}, [=](auto& device, const Bindings& at) {
    embedding_forward(device, {rows_at(at, ids, weight, rows, pairs), at[gain], at[out], at[scale]});
  });
}

// Sums the gradient of x, [N, E], over the tokens of each row of a table that `ids` touch.
TouchedTable Builder::table_gradient(const Parameter& table, TensorId ids, TensorId d_x, double scale) {
  const std::int64_t n = options_.tokens(), rows = table.shape[0], most = std::min(n, rows);
  const auto list = [&](const char* part, std::int64_t count) {
    return graph_.transient("d_" + table.name + "." + part, DType::i32, {count});
  };
  const TensorId histogram = options_.threads == 0 ? TensorId{} : list("histogram", rows);
  const TensorId row_start = list("row_start", most + 1), order = list("order", n);
  const TouchedTable t{list("rows", most), list("count", 1), graph_.transient("d_" + table.name, real_, {most, table.shape[1]})};
  graph_.operation("d_" + table.name + ".rows", {ids}, {histogram, t.rows, row_start, order, t.count},
                   [=](auto& device, const Bindings& at) {
                     touched_rows(device, {at[ids], rows, at[histogram], at[t.rows], at[row_start], at[order], at[t.count]});
                   });
  graph_.operation("d_" + table.name, {d_x, row_start, order, t.count}, {t.gradient}, [=](auto& device, const Bindings& at) {
    row_gradients(device, {at[d_x], at[row_start], at[order], at[t.count], scale, at[t.gradient]});
  });
  return t;
}

void Builder::backward_embedding(const Activations& a, Gradients& g) {
  const TensorId ids = a.ids, weight = embedding_weight_, rows = a.pair_rows, pairs = embedding_pairs_, gain = embedding_gain_;
  const TensorId scale = a.embedding_scale, d_out = g.embedding_output;
  const TensorId d_gain = g.embedding_gain = graph_.transient("d_embedding.gain", real_, {architecture_.embedding});
  graph_.operation("d_embedding", {ids, weight, rows, pairs, gain, scale}, {d_out, d_gain}, [=](auto& device, const Bindings& at) {
    embedding_backward(device, {rows_at(at, ids, weight, rows, pairs), at[gain], at[scale], at[d_out], at[d_gain]});
  });
  g.embedding_weight = table_gradient(brain_.parameter("embedding.weight"), ids, d_out, 1);
  if (pairs) g.embedding_pairs = table_gradient(brain_.parameter("embedding.pairs"), rows, d_out, kPairScale);
}

}  // namespace neurogen

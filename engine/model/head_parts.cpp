// Training of a head whose gradient is gathered: in parts of whole rows of logits.
#include <algorithm>

#include "engine/model/head.h"
#include "kernels/cross_entropy.h"
#include "kernels/matmul.h"

namespace neurogen {

// Each part has as many rows as fit into the limit, in whole tiles of products.
TensorId Head::train_in_parts(TensorId features, TensorId targets) {
  constexpr std::int64_t kRows = 64;
  const std::int64_t n = s_.options.tokens(), width = width_, vocabulary = vocabulary_, pitch = padded(vocabulary);
  const auto fit = static_cast<std::int64_t>(s_.options.logits_part / size_of(s_.compute, {pitch}));
  const std::int64_t most = std::max(fit / kRows, std::int64_t{1}) * kRows;
  const double softcap = softcap_;
  const TensorId control = s_.control, decoder = s_.operand("decoder", decoder_), gradient = s_.declare_gradient(decoder_);
  const TensorId d_features = s_.graph.transient("d_features", s_.compute, {n, width});
  const Statistics l = declare_softmax("");
  s_.graph.operation("loss.targets", {targets}, {l.total}, [=](auto& device, const Bindings& at) {
    count_targets(device, {at[targets], at[l.total]});
  });
  sum_total(s_, "loss.targets", l.total);
  if (s_.accumulates()) s_.add_share(l.total);
  for (std::int64_t begin = 0; begin < n; begin += most) {
    const std::int64_t rows = std::min(most, n - begin);
    const std::string name = "decoder.part" + std::to_string(begin / most);
    const Cost cost = s_.product_cost(1, rows, vocabulary, width);
    const TensorId logits = s_.graph.transient(name + ".logits", s_.compute, {rows, pitch});
    const auto columns = [=](const Bindings& at) { return at[logits].columns(0, vocabulary); };
    s_.graph.operation(
        name + ".logits", {features, decoder}, {logits},
        [=](auto& device, const Bindings& at) {
          matmul(device, {at[features].rows(begin, rows), at[decoder], columns(at), Transpose::no, Transpose::yes, 0});
        },
        cost);
    s_.graph.operation(name + ".d_logits", {targets, l.total, control}, {logits, l.maximum, l.sum, l.target_logit},
                       [=](auto& device, const Bindings& at) {
                         const auto part = [&](TensorId id) { return at[id].rows(begin, rows); };
                         cross_entropy_rows(device, {columns(at), part(targets), at[l.total], part(l.maximum), part(l.sum),
                                                     part(l.target_logit), at[control], softcap});
                       },
                       {0, 2 * s_.element_bytes * static_cast<double>(rows * vocabulary)});
    s_.graph.operation(
        name + ".d_features", {logits, decoder}, {d_features},
        [=](auto& device, const Bindings& at) {
          matmul(device, {columns(at), at[decoder], at[d_features].rows(begin, rows), Transpose::no, Transpose::no, 0});
        },
        cost);
    if (!gradient) continue;  // frozen
    s_.graph.operation(
        name + ".d_weights", {logits, features}, {gradient},
        [=](auto& device, const Bindings& at) {
          matmul(device, {columns(at), at[features].rows(begin, rows), at[gradient], Transpose::yes, Transpose::no,
                          begin == 0 ? 0.0 : 1.0});
        },
        cost);
  }
  add_loss("", targets, l);
  sum_total(s_, "loss", l.total, s_.model.ports.loss);
  check_overflow(l, d_features);
  return d_features;
}

}  // namespace neurogen

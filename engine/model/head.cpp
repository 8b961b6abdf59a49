#include "engine/model/head.h"

#include <algorithm>
#include <cmath>

#include "kernels/cast.h"
#include "kernels/copy.h"
#include "kernels/cross_entropy.h"
#include "kernels/int8_logits.h"
#include "kernels/loss_scale.h"
#include "kernels/matmul.h"

namespace neurogen {

bool gathers_decoder(const Architecture& architecture, const StepOptions& options) {
  return architecture.tied() || options.optimizer == Optimizer::adamw;
}

Head::Head(Assembly& assembly)
    : s_(assembly),
      vocabulary_(assembly.model.architecture->vocabulary()),
      width_(assembly.model.architecture->features()),
      softcap_(assembly.model.architecture->softcap()) {}

void Head::declare_parameters() {
  if (s_.model.architecture->tied()) {
    const auto& all = s_.model.parameters;
    const auto embedding = std::find_if(all.begin(), all.end(), [](const Parameter& p) { return p.name == "embedding.weight"; });
    decoder_ = static_cast<ParameterId>(embedding - all.begin());
    return;
  }
  const FirstValue first = normals(0.02 * std::sqrt(768.0 / static_cast<double>(width_)));
  const ParameterSpec spec{"decoder.weight", {vocabulary_, width_}, UpdateRule::adafactor, first};
  const ParameterSpec whole{spec.name, spec.shape, UpdateRule::adamw, first, true, kMatrixDecay};
  decoder_ = s_.parameter(gathered() ? whole : spec);
}

void Head::declare_statistics() {
  if (gathered()) return;
  row_ = s_.persistent("decoder.row", s_.real, {vocabulary_});
  column_ = s_.persistent("decoder.column", s_.real, {width_});
}

// Kept logits of all tiles are adjacent: without gaps if products take all of them at once, else each tile padded.
std::vector<Head::Tile> Head::vocabulary_tiles() const {
  const std::int64_t tile = s_.options.vocabulary_tile, pitch = at_once() ? tile : padded(tile);
  std::vector<Tile> list;
  for (std::int64_t v = 0; v < vocabulary_; v += tile) {
    list.push_back({v, std::min(tile, vocabulary_ - v), v / tile * pitch});
  }
  return list;
}

// The tile's weights in the type that products read: the stored rows themselves, or a converted copy.
Head::TileWeights Head::tile_weights(const std::string& name, Tile tile) {
  if (stored() == s_.compute) return {s_.operand(decoder_), tile.begin};
  const TensorId copy = s_.graph.transient(name + ".weights", s_.compute, {tile.tokens, width_});
  const TensorId decoder = s_.value(decoder_);
  s_.graph.operation(name + ".cast", {decoder}, {copy},
                     [=](auto& device, const Bindings& at) { cast(device, at[decoder].rows(tile.begin, tile.tokens), at[copy]); });
  return {copy, 0};
}

// logits[:, tile] = features D_tile^T, into the tile's columns of `logits` (from `column` on).
void Head::logits_tile(const std::string& name, TensorId features, Tile tile, TensorId logits, std::int64_t column) {
  const TileWeights weights = tile_weights(name + ".logits", tile);
  const std::int64_t n = s_.options.tokens(), outputs = width_;
  s_.graph.operation(
      name + ".logits", {features, weights.id}, {logits},
      [=](auto& device, const Bindings& at) {
        matmul(device, {at[features], at[weights.id].rows(weights.row, tile.tokens), at[logits].columns(column, tile.tokens),
                        Transpose::no, Transpose::yes, 0});
      },
      s_.product_cost(1, n, tile.tokens, outputs));
}

Head::Statistics Head::declare_softmax(const std::string& prefix) {
  const Shape shape = {s_.options.tokens()};
  const auto add = [&](const char* name) { return s_.graph.transient(prefix + name, s_.real, shape); };
  return {add("softmax.maximum"),     add("softmax.sum"), add("softmax.target_logit"),
          add("softmax.log_sum_exp"), add("loss"),        s_.graph.transient(prefix + "loss.total", DType::f64, {2})};
}

// From the statistics of all logits to the losses.
void Head::add_loss(const std::string& prefix, TensorId targets, const Statistics& l) {
  const TensorId host = s_.model.ports.loss;
  s_.graph.operation(prefix + "loss", {l.maximum, l.sum, l.target_logit, targets}, {l.log_sum_exp, l.loss, l.total, host},
                     [=](auto& device, const Bindings& at) {
                       cross_entropy_loss(device, {at[l.maximum], at[l.sum], at[l.target_logit], at[targets], at[l.log_sum_exp],
                                                   at[l.loss], at[l.total]});
                       copy(device, at[l.total], at[host]);
                     });
}

// The logits of a whole batch, with their statistics.
void Head::int8_logits(TensorId features, TensorId targets, TensorId logits, const Statistics& l) {
  constexpr std::int64_t kRows = 2048;  // of the decoder at a time
  const std::int64_t n = s_.options.tokens(), rows = std::min(vocabulary_, kRows), vocabulary = vocabulary_;
  const auto scratch = [&](const char* name, DType type, const Shape& shape) {
    return s_.graph.transient(std::string("decoder.int8.") + name, type, shape);
  };
  const TensorId decoder = s_.operand(decoder_), workspace = s_.model.workspace,
                 features8 = scratch("features", DType::u8, {n, width_}),
                 features_scale = scratch("features.scale", DType::f32, {n}),
                 weights8 = scratch("weights", DType::u8, {rows, width_}),
                 weights_scale = scratch("weights.scale", DType::f32, {rows}),
                 products = scratch("products", DType::i32, {n, rows});
  const double softcap = softcap_;
  s_.graph.operation(
      "decoder.logits", {features, decoder, targets},
      {logits, l.maximum, l.sum, l.target_logit, features8, features_scale, weights8, weights_scale, products, workspace},
      [=](auto& device, const Bindings& at) {
        neurogen::int8_logits(device, {at[features], at[decoder], at[logits].columns(0, vocabulary), at[targets], at[l.maximum],
                                       at[l.sum], at[l.target_logit], at[features8], at[features_scale], at[weights8],
                                       at[weights_scale], at[products], at[workspace], softcap});
      },
      s_.product_cost(1, n, vocabulary, width_));
}

// Under a loss scale: whether this batch's gradients overflowed. `rounded`: that of the features, if it has 16 bits.
void Head::check_overflow(const Statistics& l, TensorId rounded) {
  if (!s_.model.loss_scale) return;
  const TensorId control = s_.control;
  s_.graph.operation("loss_scale.decoder", {l.total, rounded}, {control}, [=](auto& device, const Bindings& at) {
    loss_scale_decoder(device, {at[l.total], at[rounded], at[control]});
  });
  if (rounded) share_overflow(s_, "loss_scale.decoder");  // the total is that of all ranks
}

// Forward pass over all tiles: the loss of every token, the statistics that its gradient needs, and the hits in evaluation. Kept
// logits are in one [N, V] tensor, which is returned; otherwise each tile has its own short-lived tensor.
TensorId Head::loss_forward(const std::string& prefix, TensorId features, TensorId targets, Statistics& l, bool keep,
                            std::vector<LogitsTile>* tiles_of_logits) {
  const std::int64_t n = s_.options.tokens();
  const TensorId host_hits = s_.model.ports.hits;
  TensorId best_logit, best_token, hits;
  if (host_hits) {
    best_logit = s_.graph.transient(prefix + "likeliest.logit", s_.real, {n, kLikeliest});
    best_token = s_.graph.transient(prefix + "likeliest.token", DType::i32, {n, kLikeliest});
    hits = s_.graph.transient(prefix + "hits", DType::f64, {2});
  }
  l = declare_softmax(prefix);
  const double softcap = softcap_;
  const Tile last = vocabulary_tiles().back();
  const TensorId kept =
      keep ? s_.graph.transient(prefix + "logits", s_.compute, {n, padded(last.column + last.tokens)}) : TensorId{};
  const auto statistics = [&](const std::string& name, TensorId logits, Tile tile, std::int64_t column) {
    s_.graph.operation(name + ".softmax", {logits, targets}, {l.maximum, l.sum, l.target_logit},
                       [=](auto& device, const Bindings& at) {
                         softmax_statistics(device, {at[logits].columns(column, tile.tokens), at[targets], tile.begin,
                                                     at[l.maximum], at[l.sum], at[l.target_logit], softcap});
                       },
                       {0, s_.element_bytes * static_cast<double>(n * tile.tokens)});
    if (!host_hits) return;
    s_.graph.operation(
        name + ".likeliest", {logits}, {best_logit, best_token},
        [=](auto& device, const Bindings& at) {
          likeliest_tokens(device, {at[logits].columns(column, tile.tokens), tile.begin, at[best_logit], at[best_token]});
        },
        {0, s_.element_bytes * static_cast<double>(n * tile.tokens)});
  };
  if (keep && at_once()) {
    const Tile all{0, vocabulary_};
    if (s_.options.int8_logits) {
      int8_logits(features, targets, kept, l);
    } else {
      logits_tile(prefix + "decoder", features, all, kept, 0);
      statistics(prefix + "decoder", kept, all, 0);
    }
  } else {
    const auto tiles = vocabulary_tiles();
    for (std::size_t t = 0; t < tiles.size(); ++t) {
      const Tile tile = tiles[t];
      const std::string name = prefix + "decoder.tile" + std::to_string(t);
      const TensorId logits = keep ? kept : s_.graph.transient(name + ".logits", s_.compute, {n, padded(tile.tokens)});
      const std::int64_t column = keep ? tile.column : 0;
      logits_tile(name, features, tile, logits, column);
      if (tiles_of_logits) tiles_of_logits->push_back({s_.graph.operations().size(), logits, tile.tokens});
      statistics(name, logits, tile, column);
    }
  }
  if (host_hits) {
    s_.graph.operation(prefix + "hits", {best_token, targets}, {hits, host_hits}, [=](auto& device, const Bindings& at) {
      count_hits(device, {at[best_token], at[targets], at[hits]});
      copy(device, at[hits], at[host_hits]);
    });
  }
  add_loss(prefix, targets, l);
  return kept;
}

// Whether each product takes the whole vocabulary at once, which is faster than tile by tile. It needs kept logits and weights
// stored in the type that products read. In 32 bits all is done tile by tile, so that the schedule changes no bit; in 16 bits
// d_features would otherwise be a sum over tiles in `real`, here it is rounded once.
bool Head::at_once() const { return s_.options.schedule.keep_logits && s_.compute != s_.real && stored() == s_.compute; }

TensorId Head::train(TensorId features, TensorId targets) {
  return gathered() ? train_in_parts(features, targets) : train_in_tiles(features, targets);
}

TensorId Head::train_in_tiles(TensorId features, TensorId targets) {
  const std::int64_t n = s_.options.tokens(), outputs = width_;
  Statistics l;
  const TensorId kept = loss_forward("", features, targets, l, s_.options.schedule.keep_logits, nullptr);
  sum_total(s_, "loss", l.total, s_.model.ports.loss);
  const TensorId control = s_.control;
  const TensorId decoder = s_.operand(decoder_);
  const bool whole = at_once(), updates = !s_.accumulates();
  if (s_.accumulates()) s_.add_share(l.total);
  const TensorId mean = s_.accumulates() ? s_.declare_mean_gradient(decoder_) : TensorId{};
  const std::int64_t vocabulary = vocabulary_;
  const double softcap = softcap_;
  const TensorId d_features = s_.graph.transient("d_features", whole ? s_.compute : s_.real, {n, outputs});
  if (updates) begin_update();
  const auto tiles = vocabulary_tiles();
  const auto d_logits = [&](const std::string& name, Tile tile, TensorId logits, std::int64_t at_column) {
    s_.graph.operation(name + ".d_logits", {targets, l.log_sum_exp, l.total, control}, {logits},
                       [=](auto& device, const Bindings& at) {
                         cross_entropy_backward(device, {at[logits].columns(at_column, tile.tokens), at[targets], at[l.log_sum_exp],
                                                         at[l.total], tile.begin, at[control], softcap});
                       },
                       {0, 2 * s_.element_bytes * static_cast<double>(n * tile.tokens)});
  };
  if (whole) {
    d_logits("decoder", {0, vocabulary_}, kept, 0);
    s_.graph.operation(
        "decoder.d_features", {kept, decoder}, {d_features},
        [=](auto& device, const Bindings& at) {
          matmul(device, {at[kept].columns(0, vocabulary), at[decoder], at[d_features], Transpose::no, Transpose::no, 0});
        },
        s_.product_cost(1, n, outputs, vocabulary));
  }
  check_overflow(l, whole ? d_features : TensorId{});
  const auto together = static_cast<std::size_t>(whole ? tiles_together() : 1);
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    const Tile tile = tiles[t];
    const std::string name = "decoder.tile" + std::to_string(t);
    const std::int64_t at_column = kept ? tile.column : 0;
    TensorId logits = kept;
    if (!kept) {
      logits = s_.graph.transient(name + ".logits_again", s_.compute, {n, padded(tile.tokens)});
      logits_tile(name + ".again", features, tile, logits, 0);
    }
    if (!whole) {
      d_logits(name, tile, logits, at_column);
      const TileWeights weights = tile_weights(name + ".d_features", tile);
      const double beta = t == 0 ? 0 : 1;
      s_.graph.operation(
          name + ".d_features", {logits, weights.id}, {d_features},
          [=](auto& device, const Bindings& at) {
            matmul(device, {at[logits].columns(at_column, tile.tokens), at[weights.id].rows(weights.row, tile.tokens),
                            at[d_features], Transpose::no, Transpose::no, beta});
          },
          s_.product_cost(1, n, outputs, tile.tokens));
    }
    if (t % together != 0) continue;
    const std::size_t count = std::min(together, tiles.size() - t);
    const std::int64_t begin = tile.begin, rows = tiles[t + count - 1].begin + tiles[t + count - 1].tokens - begin;
    const TensorId gradient = s_.graph.transient(name + ".gradient", s_.gradient, {rows, outputs});
    s_.graph.operation(
        name + ".d_weights", {logits, features}, {gradient},
        [=](auto& device, const Bindings& at) {
          matmul(device, {at[logits].columns(at_column, rows), at[features], at[gradient], Transpose::yes, Transpose::no, 0});
        },
        s_.product_cost(1, rows, outputs, n));
    if (mean) {
      s_.add_to_mean(name + ".mean", gradient, mean, begin);
      continue;
    }
    update_tiles({name, {begin, rows}, gradient, 0});
    s_.model.decoder_gradients.push_back(gradient);
  }
  if (updates) end_update();
  if (whole || s_.gradient == s_.real) return d_features;
  // The trunk takes this gradient in the type that its parts exchange; it is summed over tiles in `real` first.
  const TensorId low = s_.graph.transient("d_features.low", s_.gradient, {n, outputs});
  s_.graph.operation("d_features.cast", {d_features}, {low},
                     [=](auto& device, const Bindings& at) { cast(device, at[d_features], at[low]); });
  return low;
}

void Head::evaluate(const std::string& prefix, TensorId features, TensorId targets) {
  Statistics l;
  loss_forward(prefix, features, targets, l, false, &s_.model.logits_tiles);
  s_.model.token_losses = l.loss;
}

void Head::step(const std::string& prefix, TensorId features) {
  const TensorId logits = s_.graph.transient(prefix + "logits", s_.real, {s_.options.batch, vocabulary_});
  // One tile if the weights need no converted copy.
  const auto tiles = stored() == s_.compute ? std::vector<Tile>{{0, vocabulary_}} : vocabulary_tiles();
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    logits_tile(prefix + "decoder.tile" + std::to_string(t), features, tiles[t], logits, tiles[t].begin);
  }
  if (const double softcap = softcap_; softcap > 0) {
    s_.graph.operation(prefix + "softcap", {}, {logits}, [=](auto& device, const Bindings& at) {
      softcap_logits(device, {at[logits], softcap});
    });
  }
  const TensorId host = s_.model.ports.logits;
  s_.graph.operation("logits.copy", {logits}, {host},
                     [=](auto& device, const Bindings& at) { copy(device, at[logits], at[host]); });
}

}  // namespace neurogen

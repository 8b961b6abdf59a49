// Forward and backward pass from broca's outputs to the loss, in tiles of the vocabulary. Each tile is updated as soon as its
// gradient is complete, so that the decoder's gradient never exists whole.
#include <algorithm>

#include "engine/brain/builder.h"
#include "engine/brain/views.h"
#include "kernels/adafactor.h"
#include "kernels/cast.h"
#include "kernels/copy.h"
#include "kernels/cross_entropy.h"
#include "kernels/loss_scale.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

// Elements from one row of logits to the next, padded for kernels that load 16 bytes or more at a time.
std::int64_t padded(std::int64_t logits) { return (logits + 7) / 8 * 8; }

}  // namespace

// Kept logits of all tiles are adjacent: without gaps if products take all of them at once, else each tile padded.
std::vector<Builder::VocabularyTile> Builder::vocabulary_tiles() const {
  const std::int64_t tile = options_.vocabulary_tile, pitch = at_once() ? tile : padded(tile);
  std::vector<VocabularyTile> list;
  for (std::int64_t v = 0; v < architecture_.vocabulary; v += tile) {
    list.push_back({v, std::min(tile, architecture_.vocabulary - v), v / tile * pitch});
  }
  return list;
}

// The tile's weights in the type that products read: the stored rows themselves, or a converted copy.
Builder::TileWeights Builder::tile_weights(const std::string& name, VocabularyTile tile) {
  if (options_.decoder_storage == compute_) return {decoder_, tile.begin};
  const TensorId copy = graph_.transient(name + ".weights", compute_, {tile.tokens, architecture_.modules[kBroca].outputs});
  const TensorId decoder = decoder_;
  graph_.operation(name + ".cast", {decoder}, {copy},
                   [=](auto& device, const Bindings& at) { cast(device, at[decoder].rows(tile.begin, tile.tokens), at[copy]); });
  return {copy, 0};
}

// logits[:, tile] = features D_tile^T, into the tile's columns of `logits` (from `column` on).
void Builder::logits_tile(const std::string& name, TensorId features, VocabularyTile tile, TensorId logits, std::int64_t column) {
  const TileWeights weights = tile_weights(name + ".logits", tile);
  const std::int64_t n = options_.tokens(), outputs = architecture_.modules[kBroca].outputs;
  graph_.operation(
      name + ".logits", {features, weights.id}, {logits},
      [=](auto& device, const Bindings& at) {
        matmul(device, {at[features], at[weights.id].rows(weights.row, tile.tokens), at[logits].columns(column, tile.tokens),
                        Transpose::no, Transpose::yes, 0});
      },
      product_cost(1, n, tile.tokens, outputs));
}

// Forward pass over all tiles: the loss of every token, the statistics that its gradient needs, and the hits in evaluation. Kept
// logits are in one [N, V] tensor, which is returned; otherwise each tile has its own short-lived tensor.
TensorId Builder::loss_forward(const std::string& prefix, const Activations& a, LossStatistics& l, bool keep) {
  const std::int64_t n = options_.tokens();
  const TensorId features = a.output[kBroca], targets = a.targets, host = brain_.host_loss, host_hits = brain_.host_hits;
  TensorId best_logit, best_token, hits;
  if (host_hits) {
    best_logit = graph_.transient(prefix + "likeliest.logit", real_, {n, kLikeliest});
    best_token = graph_.transient(prefix + "likeliest.token", DType::i32, {n, kLikeliest});
    hits = graph_.transient(prefix + "hits", DType::f64, {2});
  }
  l.maximum = graph_.transient(prefix + "softmax.maximum", real_, {n});
  l.sum = graph_.transient(prefix + "softmax.sum", real_, {n});
  l.target_logit = graph_.transient(prefix + "softmax.target_logit", real_, {n});
  l.log_sum_exp = graph_.transient(prefix + "softmax.log_sum_exp", real_, {n});
  l.loss = graph_.transient(prefix + "loss", real_, {n});
  l.total = graph_.transient(prefix + "loss.total", DType::f64, {2});
  const double softcap = architecture_.softcap;
  const VocabularyTile last = vocabulary_tiles().back();
  const TensorId kept = keep ? graph_.transient(prefix + "logits", compute_, {n, padded(last.column + last.tokens)}) : TensorId{};
  const auto statistics = [&](const std::string& name, TensorId logits, VocabularyTile tile, std::int64_t column) {
    graph_.operation(name + ".softmax", {logits, targets}, {l.maximum, l.sum, l.target_logit},
                     [=](auto& device, const Bindings& at) {
                       softmax_statistics(device, {at[logits].columns(column, tile.tokens), at[targets], tile.begin, at[l.maximum],
                                                   at[l.sum], at[l.target_logit], softcap});
                     },
                     {0, element_bytes_ * static_cast<double>(n * tile.tokens)});
    if (!host_hits) return;
    graph_.operation(
        name + ".likeliest", {logits}, {best_logit, best_token},
        [=](auto& device, const Bindings& at) {
          likeliest_tokens(device, {at[logits].columns(column, tile.tokens), tile.begin, at[best_logit], at[best_token]});
        },
        {0, element_bytes_ * static_cast<double>(n * tile.tokens)});
  };
  if (keep && at_once()) {
    const VocabularyTile all{0, architecture_.vocabulary};
    logits_tile(prefix + "decoder", features, all, kept, 0);
    statistics(prefix + "decoder", kept, all, 0);
  } else {
    const auto tiles = vocabulary_tiles();
    for (std::size_t t = 0; t < tiles.size(); ++t) {
      const VocabularyTile tile = tiles[t];
      const std::string name = prefix + "decoder.tile" + std::to_string(t);
      const TensorId logits = keep ? kept : graph_.transient(name + ".logits", compute_, {n, padded(tile.tokens)});
      const std::int64_t column = keep ? tile.column : 0;
      logits_tile(name, features, tile, logits, column);
      statistics(name, logits, tile, column);
    }
  }
  if (host_hits) {
    graph_.operation(prefix + "hits", {best_token, targets}, {hits, host_hits}, [=](auto& device, const Bindings& at) {
      count_hits(device, {at[best_token], at[targets], at[hits]});
      copy(device, at[hits], at[host_hits]);
    });
  }
  graph_.operation(prefix + "loss", {l.maximum, l.sum, l.target_logit, targets}, {l.log_sum_exp, l.loss, l.total, host},
                   [=](auto& device, const Bindings& at) {
                     cross_entropy_loss(device, {at[l.maximum], at[l.sum], at[l.target_logit], at[targets], at[l.log_sum_exp],
                                                 at[l.loss], at[l.total]});
                     copy(device, at[l.total], at[host]);
                   });
  return kept;
}

// Whether each product takes the whole vocabulary at once, which is faster than tile by tile. It needs kept logits and weights
// stored in the type that products read. In 32 bits all is done tile by tile, so that the schedule changes no bit; in 16 bits
// d_features would otherwise be a sum over tiles in `real`, here it is rounded once.
bool Builder::at_once() const { return options_.schedule.keep_logits && compute_ != real_ && options_.decoder_storage == compute_; }

TensorId Builder::decoder_training(const Activations& a) {
  const std::int64_t n = options_.tokens(), outputs = architecture_.modules[kBroca].outputs;
  LossStatistics l;
  const TensorId kept = loss_forward("", a, l, options_.schedule.keep_logits);
  const TensorId features = a.output[kBroca], targets = a.targets, control = brain_.control;
  const TensorId row = brain_.decoder_row, column = brain_.decoder_column, decoder = decoder_;
  const bool whole = at_once();
  const std::int64_t vocabulary = architecture_.vocabulary;
  const double softcap = architecture_.softcap;
  const TensorId d_broca = graph_.transient("d_features", whole ? compute_ : real_, {n, outputs});
  const TensorId column_sum = graph_.transient("decoder.column_sum", real_, {outputs});
  graph_.operation("decoder.column_sum.clear", {}, {column_sum},
                   [=](auto& device, const Bindings& at) { clear(device, at[column_sum]); });
  const auto tiles = vocabulary_tiles();
  const auto d_logits = [&](const std::string& name, VocabularyTile tile, TensorId logits, std::int64_t at_column) {
    graph_.operation(name + ".d_logits", {targets, l.log_sum_exp, l.total, control}, {logits},
                     [=](auto& device, const Bindings& at) {
                       cross_entropy_backward(device, {at[logits].columns(at_column, tile.tokens), at[targets], at[l.log_sum_exp],
                                                       at[l.total], tile.begin, at[control], softcap});
                     },
                     {0, 2 * element_bytes_ * static_cast<double>(n * tile.tokens)});
  };
  if (whole) {
    d_logits("decoder", {0, architecture_.vocabulary}, kept, 0);
    graph_.operation(
        "decoder.d_features", {kept, decoder}, {d_broca},
        [=](auto& device, const Bindings& at) {
          matmul(device, {at[kept].columns(0, vocabulary), at[decoder], at[d_broca], Transpose::no, Transpose::no, 0});
        },
        product_cost(1, n, outputs, vocabulary));
  }
  if (brain_.loss_scale) {
    const TensorId d_features = whole ? d_broca : TensorId{};
    graph_.operation("loss_scale.decoder", {l.total, d_features}, {control}, [=](auto& device, const Bindings& at) {
      loss_scale_decoder(device, {at[l.total], at[d_features], at[control]});
    });
  }
  // With at_once(), a few neighbouring tiles share one product and one update, which then fill a large GPU; divided as evenly as
  // possible.
  constexpr std::int64_t kGradientElements = 21'000'000;
  const auto most =
      static_cast<std::size_t>(whole ? std::max<std::int64_t>(1, kGradientElements / (options_.vocabulary_tile * outputs)) : 1);
  const std::size_t products = (tiles.size() + most - 1) / most, together = (tiles.size() + products - 1) / products;
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    const VocabularyTile tile = tiles[t];
    const std::string name = "decoder.tile" + std::to_string(t);
    const std::int64_t at_column = kept ? tile.column : 0;
    TensorId logits = kept;
    if (!kept) {
      logits = graph_.transient(name + ".logits_again", compute_, {n, padded(tile.tokens)});
      logits_tile(name + ".again", features, tile, logits, 0);
    }
    if (!whole) {
      d_logits(name, tile, logits, at_column);
      const TileWeights weights = tile_weights(name + ".d_features", tile);
      const double beta = t == 0 ? 0 : 1;
      graph_.operation(
          name + ".d_features", {logits, weights.id}, {d_broca},
          [=](auto& device, const Bindings& at) {
            matmul(device, {at[logits].columns(at_column, tile.tokens), at[weights.id].rows(weights.row, tile.tokens), at[d_broca],
                            Transpose::no, Transpose::no, beta});
          },
          product_cost(1, n, outputs, tile.tokens));
    }
    if (t % together != 0) continue;
    const std::size_t count = std::min(together, tiles.size() - t);
    const std::int64_t begin = tile.begin, rows = tiles[t + count - 1].begin + tiles[t + count - 1].tokens - begin;
    const TensorId gradient = graph_.transient(name + ".gradient", gradient_, {rows, outputs});
    graph_.operation(
        name + ".d_weights", {logits, features}, {gradient},
        [=](auto& device, const Bindings& at) {
          matmul(device, {at[logits].columns(at_column, rows), at[features], at[gradient], Transpose::yes, Transpose::no, 0});
        },
        product_cost(1, rows, outputs, n));
    const std::int64_t tile_rows = std::min(options_.vocabulary_tile, rows);
    const TensorId sums = graph_.transient(name + ".adafactor.scratch", DType::f64,
                                           {static_cast<std::int64_t>(count), adafactor_scratch(tile_rows, outputs)});
    graph_.operation(name + ".update", {control, gradient, column}, {decoder, row, column_sum, sums},
                     [=](auto& device, const Bindings& at) {
                       adafactor_tiles(device, {at[control], at[gradient], at[decoder].rows(begin, rows), at[row].rows(begin, rows),
                                                at[column], at[column_sum], at[sums], tile_rows, begin});
                     },
                     {0, 3 * element_bytes_ * static_cast<double>(rows * outputs)});
    brain_.decoder_gradients.push_back(gradient);
  }
  graph_.operation("decoder.column", {column_sum, control}, {column}, [=](auto& device, const Bindings& at) {
    adafactor_finish(device, {at[column_sum], vocabulary, at[column], at[control]});
  });
  if (whole || gradient_ == real_) return d_broca;
  // Broca takes this gradient in the type that modules exchange; it is summed over tiles in `real` first.
  const TensorId low = graph_.transient("d_features.low", gradient_, {n, outputs});
  graph_.operation("d_features.cast", {d_broca}, {low},
                   [=](auto& device, const Bindings& at) { cast(device, at[d_broca], at[low]); });
  return low;
}

void Builder::decoder_evaluation(const std::string& prefix, const Activations& a) {
  LossStatistics l;
  loss_forward(prefix, a, l, false);
}

void Builder::decoder_stream(const std::string& prefix, const Activations& a) {
  const TensorId logits = graph_.transient(prefix + "logits", real_, {1, architecture_.vocabulary});
  // One tile if the weights need no converted copy.
  const auto tiles =
      options_.decoder_storage == compute_ ? std::vector<VocabularyTile>{{0, architecture_.vocabulary}} : vocabulary_tiles();
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    logits_tile(prefix + "decoder.tile" + std::to_string(t), a.output[kBroca], tiles[t], logits, tiles[t].begin);
  }
  if (const double softcap = architecture_.softcap; softcap > 0) {
    graph_.operation(prefix + "softcap", {}, {logits}, [=](auto& device, const Bindings& at) {
      softcap_logits(device, {at[logits], softcap});
    });
  }
  const TensorId host = brain_.host_logits;
  graph_.operation("logits.copy", {logits}, {host}, [=](auto& device, const Bindings& at) {
    copy(device, at[logits], at[host].reshaped({1, at[host].elements()}));
  });
}

}  // namespace neurogen

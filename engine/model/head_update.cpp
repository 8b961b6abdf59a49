// The decoder's update by Adafactor, tile by tile, which several ranks share out.
#include <algorithm>
#include <utility>

#include "engine/model/head.h"
#include "kernels/adafactor.h"
#include "kernels/all_ranks.h"
#include "kernels/copy.h"

namespace neurogen {

// With at_once(), a few neighbouring tiles share one product and one update, which then fill a large GPU; divided as evenly as
// possible. Several ranks share them out.
std::int64_t Head::tiles_together() const {
  constexpr std::int64_t kGradientElements = 21'000'000;
  const std::int64_t tile = s_.options.vocabulary_tile, tiles = (vocabulary_ + tile - 1) / tile, ranks = s_.model.options.ranks;
  const std::int64_t most = at_once() ? std::max<std::int64_t>(1, kGradientElements / (tile * width_)) : 1;
  const std::int64_t products = (tiles + most - 1) / most, even = (tiles + products - 1) / products;
  return std::min((even + ranks - 1) / ranks * ranks, tiles);
}

void Head::begin_update() {
  const TensorId sum = column_sum_ = s_.graph.transient("decoder.column_sum", s_.real, {width_});
  s_.graph.operation("decoder.column_sum.clear", {}, {sum}, [=](auto& device, const Bindings& at) { clear(device, at[sum]); });
}

// Neighbouring tiles, evenly and in one run for each rank. If they do not divide, the ranks that have more change from call to
// call.
std::vector<Head::Run> Head::shared_out(Tile tiles) {
  const std::int64_t tile = s_.options.vocabulary_tile, count = (tiles.tokens + tile - 1) / tile, ranks = s_.model.options.ranks;
  std::vector<Run> runs;
  for (std::int64_t part = 0; part < ranks; ++part) {
    const std::int64_t first = part * count / ranks * tile, end = std::min((part + 1) * count / ranks * tile, tiles.tokens);
    if (first < end) runs.push_back({static_cast<int>((part + groups_) % ranks), tiles.begin + first, end - first});
  }
  ++groups_;
  runs_.insert(runs_.end(), runs.begin(), runs.end());
  return runs;
}

// The runs' rows of a tensor that begins `before` rows into the decoder.
std::vector<Share> Head::shares(TensorId tensor, const std::vector<Run>& runs, std::int64_t before) const {
  std::vector<Share> list;
  for (const Run& run : runs) list.push_back({tensor, run.owner, run.begin - before, run.rows});
  return list;
}

std::vector<Share> Head::statistics() const { return s_.several_ranks() ? shares(row_, runs_) : std::vector<Share>{}; }

void Head::update_tiles(const TilesGradient& g) {
  const std::vector<Run> runs = shared_out(g.tiles);
  if (!s_.several_ranks()) return add_update(g, runs);
  const Exchange sum = begin_reduce(s_, g.name, shares(g.id, runs, g.tiles.begin - g.first_row), Ends::later);
  end_sum();
  behind_sum_ = [=, this] {
    end_exchange(s_, sum);
    add_update(g, runs);
    begin_broadcast(s_, g.name, shares(s_.operand(decoder_), runs), Ends::last);
  };
}

void Head::end_sum() {
  if (behind_sum_) std::exchange(behind_sum_, nullptr)();
}

void Head::add_update(const TilesGradient& g, const std::vector<Run>& runs) {
  const TensorId control = s_.control, decoder = s_.operand(decoder_), row = row_, column = column_, column_sum = column_sum_,
                 gradient = g.id;
  const std::string& name = g.name;
  std::int64_t rows = 0;  // of the longest run
  for (const Run& run : runs) rows = std::max(rows, run.rows);
  const std::int64_t before = g.tiles.begin - g.first_row, tile = std::min(s_.options.vocabulary_tile, rows);
  const TensorId sums =
      s_.graph.transient(name + ".adafactor.scratch", DType::f64, {(rows + tile - 1) / tile, adafactor_scratch(tile, width_)});
  s_.graph.operation(name + ".update", {control, gradient, column}, {decoder, row, column_sum, sums},
                     [=](auto& device, const Bindings& at) {
                       for (const Run& run : runs) {
                         if (run.owner != rank_of(device)) continue;
                         const auto own = [&](TensorId id) { return at[id].rows(run.begin, run.rows); };
                         adafactor_tiles(device, {at[control], at[gradient].rows(run.begin - before, run.rows), own(decoder),
                                                  own(row), at[column], at[column_sum], at[sums], tile, run.begin});
                       }
                     },
                     {0, 3 * s_.element_bytes * static_cast<double>(rows * width_)});
}

void Head::update_columns() {
  const TensorId control = s_.control, column = column_, column_sum = column_sum_;
  const std::int64_t vocabulary = vocabulary_;
  s_.graph.operation("decoder.column", {column_sum, control}, {column}, [=](auto& device, const Bindings& at) {
    adafactor_finish(device, {at[column_sum], vocabulary, at[column], at[control]});
  });
}

void Head::end_update() {
  end_sum();
  if (!s_.several_ranks()) return update_columns();
  last_ = begin_sum(s_, "decoder.column_sum", {column_sum_}, Ends::last);
  last_.tensors.push_back(s_.operand(decoder_));
}

void Head::end_step() {
  if (last_.tensors.empty()) return;
  end_exchange(s_, last_);
  update_columns();
}

void Head::update() {
  if (gathered()) return;
  begin_update();
  const TensorId gradient = s_.model.parameters[decoder_].gradient;
  const std::int64_t most = tiles_together() * s_.options.vocabulary_tile;
  for (std::int64_t begin = 0; begin < vocabulary_; begin += most) {
    const Tile tiles{begin, std::min(most, vocabulary_ - begin)};
    update_tiles({"decoder.tile" + std::to_string(begin / s_.options.vocabulary_tile), tiles, gradient, begin});
  }
  end_update();
}

}  // namespace neurogen

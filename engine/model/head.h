// The head: from a model's features to logits and their loss, in tiles of the vocabulary, and back. Under Adafactor each tile of
// the decoder is updated as soon as its gradient is complete, so that the decoder's gradient never exists whole. Under AdamW it is
// gathered, and updated with all others; so is that of a tied decoder, which is the embedding: then training goes through the batch
// in parts of whole rows, and computes each logit once. If a step has several micro-batches, the gradients of all must be known
// before the first update: they are collected in one of the decoder's size. A frozen decoder's training goes in parts too, without
// a gradient of its own.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/model/assembly.h"
#include "engine/model/exchange.h"

namespace neurogen {

// Whether the decoder's gradient is gathered.
bool gathers_decoder(const Architecture& architecture, const StepOptions& options);

class Head {
 public:
  // The assembly must outlive it.
  explicit Head(Assembly& assembly);

  void declare_parameters();  // decoder.weight [V, F], unless it is tied
  void declare_statistics();  // Adafactor's, for training
  // Adds the loss of features [N, F], the decoder's update or its gradient, and returns the gradient of the features.
  TensorId train(TensorId features, TensorId targets);
  // Adds the decoder's update at the end of a step in micro-batches, unless it is updated with all others.
  void update();
  // With several ranks, adds the end of what goes on beside the trunk. Comes behind everything else in a step.
  void end_step();
  // Adafactor's statistics of each row, which only the rank that updates it knows, with several ranks.
  std::vector<Share> statistics() const;
  // Adds the loss and, if the model has a port for them, the hits.
  void evaluate(const std::string& prefix, TensorId features, TensorId targets);
  // Adds the logits of one token.
  void step(const std::string& prefix, TensorId features);

 private:
  struct Tile {
    std::int64_t begin, tokens;
    std::int64_t column = 0;  // in the kept logits
  };
  struct TileWeights {
    TensorId id;
    std::int64_t row;  // of the tile's first token
  };
  struct Run {  // of neighbouring tiles, which one rank updates: rows of the decoder
    int owner;
    std::int64_t begin, rows;
  };
  struct TilesGradient {  // of neighbouring tiles: rows of a tensor, from `first_row` on
    std::string name;
    Tile tiles;
    TensorId id;
    std::int64_t first_row;
  };
  struct Statistics {
    TensorId maximum, sum, target_logit, log_sum_exp, loss, total;
  };
  // Elements from one row of logits to the next, padded for kernels that load 16 bytes or more at a time.
  static std::int64_t padded(std::int64_t logits) { return (logits + 7) / 8 * 8; }
  std::vector<Tile> vocabulary_tiles() const;
  bool gathered() const { return gathers_decoder(*s_.model.architecture, s_.model.options); }
  DType stored() const { return s_.graph.tensors()[s_.operand(decoder_).index].dtype; }  // what products begin from
  bool at_once() const;
  std::int64_t tiles_together() const;
  // Adafactor: its sums over columns, cleared; the update of neighbouring tiles, and what follows the last. With several ranks the
  // tiles are shared out. Their gradient is summed on their owners beside the product for the next ones; behind that product they
  // are updated, and then passed on beside all that follows.
  void begin_update();
  void update_tiles(const TilesGradient& gradient);
  void add_update(const TilesGradient& gradient, const std::vector<Run>& runs);
  void end_sum();
  void end_update();
  void update_columns();
  std::vector<Run> shared_out(Tile tiles);
  std::vector<Share> shares(TensorId tensor, const std::vector<Run>& runs, std::int64_t before = 0) const;
  TileWeights tile_weights(const std::string& name, Tile tile);
  void int8_logits(TensorId features, TensorId targets, TensorId logits, const Statistics& l);
  void logits_tile(const std::string& name, TensorId features, Tile tile, TensorId logits, std::int64_t column);
  Statistics declare_softmax(const std::string& prefix);
  void add_loss(const std::string& prefix, TensorId targets, const Statistics& l);
  void check_overflow(const Statistics& l, TensorId rounded);
  TensorId train_in_tiles(TensorId features, TensorId targets);
  TensorId train_in_parts(TensorId features, TensorId targets);
  TensorId loss_forward(const std::string& prefix, TensorId features, TensorId targets, Statistics& l, bool keep,
                        std::vector<LogitsTile>* tiles_of_logits);

  Assembly& s_;
  std::int64_t vocabulary_, width_;  // V, F
  double softcap_;
  ParameterId decoder_ = 0;
  TensorId row_, column_;             // [V], [F], persistent
  TensorId column_sum_;               // [F], of this step
  std::function<void()> behind_sum_;  // adds the end of the sum over ranks that has begun, and its update
  std::vector<Run> runs_;             // of all tiles
  std::int64_t groups_ = 0;           // of tiles that were shared out so far
  Exchange last_;                     // ends last, and with it all that passes on tiles
};

}  // namespace neurogen

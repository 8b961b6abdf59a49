// The embedding of token ids, with a table for pairs of tokens: e = rms(weight[id] + 0.25 pairs[row]) gain (kernels/embedding.h).
#pragma once
#include <string>
#include <vector>

#include "engine/model/assembly.h"

namespace neurogen {

struct LookUp {
  ParameterId table;
  TensorId ids;  // [N] i32: rows
  double scale = 1;
};
// Adds the gradients of tables from d_x [N, E], the gradient of the sum of the rows that they look up: of a table under row-wise
// RMSProp that of the touched rows alone, which are those of all ranks; of any other the whole, on top of what is there if it has
// one already; of a frozen one nothing.
void add_table_gradients(Assembly& assembly, TensorId d_x, const std::vector<LookUp>& tables);

class Embedding {
 public:
  // `pairs`: rows of the pair table, 0: none. The assembly must outlive it.
  Embedding(Assembly& assembly, std::int64_t width, std::int64_t pairs);

  void declare_parameters();  // embedding.weight [V, E], embedding.pairs [P, E], embedding.gain [E]
  // Adds the forward pass and returns its output, [N, E] in the compute type. `stream`: the token before is remembered.
  TensorId forward(const Batch& batch, const std::string& prefix, bool stream);
  // Adds the backward pass of the latest forward(). d_output, [N, E], is overwritten.
  void backward(TensorId d_output);

 private:
  TensorId pairs() const { return pairs_ > 0 ? s_.value(pair_table_) : TensorId{}; }

  Assembly& s_;
  std::int64_t width_, pairs_;
  ParameterId weight_ = 0, pair_table_ = 0, gain_ = 0;
  TensorId ids_, pair_rows_, scale_;  // of the latest forward pass: [N] i32 twice, [N] inverse rms
};

}  // namespace neurogen

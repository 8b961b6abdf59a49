// What ranks exchange in a step (StepOptions::ranks), as operations of the graph. On a GPU one that has begun goes on beside the
// operations that follow, until it ends; its tensors may not be touched meanwhile.
#pragma once
#include <string>
#include <vector>

#include "engine/model/assembly.h"

namespace neurogen {

// One that has begun.
struct Exchange {
  std::string name;
  std::vector<TensorId> tensors;
  int ticket = 0;  // kernels/all_ranks.h
};

// The sum over ranks of whole tensors, or of rows of one.
Exchange begin_sum(Assembly& assembly, const std::string& name, const std::vector<TensorId>& tensors);
Exchange begin_sum(Assembly& assembly, const std::string& name, TensorId tensor, std::int64_t first_row, std::int64_t rows);
// Ends it, and all that began before it.
void end_exchange(Assembly& assembly, const Exchange& exchange);

// The following add nothing with one rank, or for no tensors. The sum of a batch's losses and counts over ranks, copied to `host`
// if it is given.
void sum_total(Assembly& assembly, const std::string& name, TensorId total, TensorId host = {});
// What overflowed on any rank did on all (loss_scale.h).
void share_overflow(Assembly& assembly, const std::string& name);
// Tensors [n, ...] as [ranks n, ...] of all ranks, in their order; the same tensors with one rank.
std::vector<TensorId> of_all_ranks(Assembly& assembly, const std::string& name, const std::vector<TensorId>& tensors);

}  // namespace neurogen

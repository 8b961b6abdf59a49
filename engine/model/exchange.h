// Exchanges between the ranks of a step (StepOptions::ranks), as operations of the graph. On a GPU an exchange runs beside the
// operations that follow it until end_exchange; they may not touch its tensors.
#pragma once
#include <string>
#include <vector>

#include "engine/model/assembly.h"

namespace neurogen {

// When an exchange ends.
enum class Ends {
  at_once,  // before anything else runs
  later,    // behind some operations
  last,     // behind all others of its program
};

// An exchange that has begun.
struct Exchange {
  std::string name;
  std::vector<TensorId> tensors;
  int ticket = 0;  // kernels/all_ranks.h
};

// A tensor, or rows of one, that its owner alone updates.
struct Share {
  TensorId tensor;
  int owner;                             // the rank
  std::int64_t first_row = 0, rows = 0;  // 0 rows: all

  TensorView view(const Bindings& at) const { return rows == 0 ? at[tensor] : at[tensor].rows(first_row, rows); }
};

// Sums tensors over ranks.
Exchange begin_sum(Assembly& assembly, const std::string& name, const std::vector<TensorId>& tensors, Ends ends);
// Sums each share over ranks, on its owner alone; other ranks may not read it.
Exchange begin_reduce(Assembly& assembly, const std::string& name, const std::vector<Share>& shares, Ends ends);
// Copies each share from its owner to all ranks.
Exchange begin_broadcast(Assembly& assembly, const std::string& name, const std::vector<Share>& shares, Ends ends);
// Ends it, and all that began before it.
void end_exchange(Assembly& assembly, const Exchange& exchange);

// The following add nothing with one rank, or for no tensors.
// Sums a batch's losses and counts over ranks, and copies them to `host` if it is given.
void sum_total(Assembly& assembly, const std::string& name, TensorId total, TensorId host = {});
// Sets every overflow flag that any rank has set (loss_scale.h) on all ranks.
void share_overflow(Assembly& assembly, const std::string& name);
// Returns the tensors [n, ...] of all ranks as [ranks n, ...], in the order of ranks; the same tensors with one rank.
std::vector<TensorId> of_all_ranks(Assembly& assembly, const std::string& name, const std::vector<TensorId>& tensors);

}  // namespace neurogen

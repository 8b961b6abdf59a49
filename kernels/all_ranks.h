// Operations among all ranks: processes that train together, one device each (StepOptions::ranks). Every rank calls the same
// operations in the same order, with operands of equal types and shapes, and receives equal bits.
//
// All but all_ranks_wait only begin: their operands may be read, and others written, behind all_ranks_wait with the same ticket, so
// that other work goes on meanwhile. On a GPU they run on a stream of their own, in order; on a CPU they are complete at once.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/several.h"

namespace neurogen {

inline constexpr int kAllRanksTickets = 8;  // tickets are below; each names the latest operation that was begun with it
// The ticket of operations that run beside much other work: on a GPU, products leave no multiprocessors to them.
inline constexpr int kAllRanksLastTicket = kAllRanksTickets - 1;

// The number of this process among the ranks; 0 if it is alone.
int rank_of(const CpuDevice& device);
int rank_of(CudaDevice& device);

// Sums in place, each element over all ranks in their order, 16-bit numbers rounded once; through NCCL in the order of its ring,
// and rounded at every rank.
struct AllRanksSum {
  Several<TensorView> tensors;  // f32, f64, bf16 or f16; contiguous
  int ticket = 0;
  bool alone = false;  // nothing else runs until it is waited for: it may take the whole GPU
};

// Sums as above, each on one rank.
struct AllRanksReduce {
  struct Of {
    TensorView x;  // f32, f64, bf16 or f16; contiguous. Other ranks may not rely on theirs.
    int root;      // the rank that receives the sum
  };
  Several<Of> tensors;
  int ticket = 0;
  bool alone = false;  // as above
};

// Copies tensors from their roots to all ranks.
struct AllRanksBroadcast {
  struct Of {
    TensorView x;  // of any type; contiguous
    int root;      // the rank whose tensor all receive
  };
  Several<Of> tensors;
  int ticket = 0;
  bool alone = false;  // as above
};

// The largest over all ranks, in place.
struct AllRanksMaximum {
  Several<TensorView> tensors;  // i32, contiguous
  int ticket = 0;
};

// The tensors of all ranks, one after another in their order.
struct AllRanksGather {
  struct Of {
    TensorView mine;  // [n, ...] of any type; contiguous
    TensorView all;   // out [ranks n, ...], not overlapping
  };
  Several<Of> tensors;
  int ticket = 0;
};

void all_ranks_sum(CpuDevice& device, const AllRanksSum& arguments);
void all_ranks_reduce(CpuDevice& device, const AllRanksReduce& arguments);
void all_ranks_broadcast(CpuDevice& device, const AllRanksBroadcast& arguments);
void all_ranks_maximum(CpuDevice& device, const AllRanksMaximum& arguments);
void all_ranks_gather(CpuDevice& device, const AllRanksGather& arguments);
void all_ranks_wait(CpuDevice& device, int ticket);
void all_ranks_sum(CudaDevice& device, const AllRanksSum& arguments);
void all_ranks_reduce(CudaDevice& device, const AllRanksReduce& arguments);
void all_ranks_broadcast(CudaDevice& device, const AllRanksBroadcast& arguments);
void all_ranks_maximum(CudaDevice& device, const AllRanksMaximum& arguments);
void all_ranks_gather(CudaDevice& device, const AllRanksGather& arguments);
void all_ranks_wait(CudaDevice& device, int ticket);

}  // namespace neurogen

// Operations among ranks through NCCL: as in all_ranks.h, on the stream of `nccl`.
#pragma once
#include "kernels/all_ranks.h"
#include "kernels/base/nccl.cuh"

namespace neurogen {

void sum_by_nccl(Nccl::Native& nccl, const AllRanksSum& arguments);
void maximum_by_nccl(Nccl::Native& nccl, const AllRanksMaximum& arguments);
void gather_by_nccl(Nccl::Native& nccl, const AllRanksGather& arguments);
void reduce_by_nccl(Nccl::Native& nccl, const AllRanksReduce& arguments);
void broadcast_by_nccl(Nccl::Native& nccl, const AllRanksBroadcast& arguments);

}  // namespace neurogen

// Operations among ranks whose GPUs reach each other's memory: as in all_ranks.h, on the stream of `peers`.
#pragma once
#include "kernels/all_ranks.h"
#include "kernels/base/peers.cuh"

namespace neurogen {

void sum_over_peers(Peers::Native& peers, const AllRanksSum& arguments);
void maximum_over_peers(Peers::Native& peers, const AllRanksMaximum& arguments);
void gather_from_peers(Peers::Native& peers, const AllRanksGather& arguments);
void reduce_over_peers(Peers::Native& peers, const AllRanksReduce& arguments);
void broadcast_to_peers(Peers::Native& peers, const AllRanksBroadcast& arguments);

}  // namespace neurogen

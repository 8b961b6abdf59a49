#include "kernels/all_ranks.h"
#include "kernels/all_ranks_nccl.cuh"
#include "kernels/all_ranks_peers.cuh"
#include "kernels/base/cublas.cuh"

namespace neurogen {
namespace {

static_assert(kAllRanksTickets == GpuRanks::kTickets);

GpuRanks& ranks_of(CudaDevice& device) {
  const CudaDevice::Native& n = device.native();
  require_operands(n.peers || n.nccl, "an operation among ranks runs on a GPU that has none: call use_peers or use_nccl first");
  return n.peers ? static_cast<GpuRanks&>(n.peers->native()) : n.nccl->native();
}

// While an operation runs, products leave it the multiprocessors of its blocks: a product for all of them would wait for a second
// turn of a few.
void leave_multiprocessors(CudaDevice& device, int rest) {
  if (cublas().set_multiprocessors(device.native().cublas, rest) != CUBLAS_STATUS_SUCCESS)
    throw Error("cuBLAS rejects a number of multiprocessors", Error::kRunTime);
}

// Begins an operation, directly or through NCCL, behind what the device's stream has so far. In a capture the other stream joins it
// by these events, and leaves it in all_ranks_wait.
template <typename Arguments>
void begin(CudaDevice& device, const Arguments& arguments, void (*directly)(Peers::Native&, const Arguments&),
           void (*by_nccl)(Nccl::Native&, const Arguments&), const char* what) {
  GpuRanks& ranks = ranks_of(device);
  require_cuda(cudaEventRecord(ranks.ready, stream_of(device)), what);
  require_cuda(cudaStreamWaitEvent(ranks.stream, ranks.ready), what);
  if (Peers* const peers = device.native().peers) directly(peers->native(), arguments);
  else by_nccl(device.native().nccl->native(), arguments);
  require_cuda(cudaEventRecord(ranks.done[arguments.ticket], ranks.stream), what);
  if (arguments.ticket == kAllRanksLastTicket) return;
  ranks.latest = arguments.ticket;
  leave_multiprocessors(device, ranks.multiprocessors - ranks.taken);
}

}  // namespace

int rank_of(CudaDevice& device) {
  const CudaDevice::Native& n = device.native();
  return n.peers || n.nccl ? ranks_of(device).rank : 0;
}

void all_ranks_sum(CudaDevice& device, const AllRanksSum& a) { begin(device, a, sum_over_peers, sum_by_nccl, "all_ranks_sum"); }
void all_ranks_reduce(CudaDevice& device, const AllRanksReduce& a) {
  begin(device, a, reduce_over_peers, reduce_by_nccl, "all_ranks_reduce");
}
void all_ranks_broadcast(CudaDevice& device, const AllRanksBroadcast& a) {
  begin(device, a, broadcast_to_peers, broadcast_by_nccl, "all_ranks_broadcast");
}
void all_ranks_maximum(CudaDevice& device, const AllRanksMaximum& a) {
  begin(device, a, maximum_over_peers, maximum_by_nccl, "all_ranks_maximum");
}
void all_ranks_gather(CudaDevice& device, const AllRanksGather& a) {
  begin(device, a, gather_from_peers, gather_by_nccl, "all_ranks_gather");
}

void all_ranks_wait(CudaDevice& device, int ticket) {
  GpuRanks& ranks = ranks_of(device);
  require_cuda(cudaStreamWaitEvent(stream_of(device), ranks.done[ticket]), "all_ranks_wait");
  if (ticket == ranks.latest) leave_multiprocessors(device, 0);
}

}  // namespace neurogen

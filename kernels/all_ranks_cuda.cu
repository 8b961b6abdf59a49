#include "kernels/all_ranks.h"
#include "kernels/base/cublas.cuh"
#include "kernels/base/nccl.cuh"

namespace neurogen {
namespace {

static_assert(kAllRanksTickets == Nccl::Native::kTickets);

NcclFunctions::Type type_of(DType type) {
  switch (type) {
    case DType::f32:
      return NcclFunctions::f32;
    case DType::f64:
      return NcclFunctions::f64;
    case DType::bf16:
      return NcclFunctions::bf16;
    case DType::f16:
      return NcclFunctions::f16;
    default:
      throw Error(std::string("all_ranks_sum does not take ") + name_of(type));
  }
}

// While an operation runs, products leave it the multiprocessors of its channels: a product for all of them would wait for a second
// turn of a few.
void leave_multiprocessors(CudaDevice& device, int rest) {
  if (cublas().set_multiprocessors(device.native().cublas, rest) != CUBLAS_STATUS_SUCCESS)
    throw Error("cuBLAS rejects a number of multiprocessors", Error::kRunTime);
}

// Begins `add(native)` as one group behind what the device's stream has so far. In a capture the other stream joins it by these
// events, and leaves it in all_ranks_wait.
template <typename Add>
void begin(CudaDevice& device, int ticket, const char* what, Add&& add) {
  require_operands(device.native().nccl != nullptr, "an operation among ranks runs on a GPU that has none: call use_nccl first");
  Nccl::Native& n = device.native().nccl->native();
  require_cuda(cudaEventRecord(n.ready, stream_of(device)), what);
  require_cuda(cudaStreamWaitEvent(n.stream, n.ready), what);
  require_nccl(nccl().group_start(), what);
  add(n);
  require_nccl(nccl().group_end(), what);
  require_cuda(cudaEventRecord(n.done[ticket], n.stream), what);
  n.latest = ticket;
  leave_multiprocessors(device, n.multiprocessors - n.channels);
}

void reduce(Nccl::Native& n, const TensorView& x, NcclFunctions::Type type, NcclFunctions::Reduction how) {
  require_operands(x.contiguous(), "all_ranks: tensors must be contiguous");
  require_nccl(nccl().all_reduce(x.data, x.data, static_cast<std::size_t>(x.elements()), type, how, n.communicator, n.stream),
               "a sum over ranks");
}

}  // namespace

void all_ranks_sum(CudaDevice& device, const AllRanksSum& a) {
  begin(device, a.ticket, "all_ranks_sum", [&](Nccl::Native& n) {
    for (const TensorView& x : a.tensors) reduce(n, x, type_of(x.dtype), NcclFunctions::sum);
  });
}

void all_ranks_maximum(CudaDevice& device, const AllRanksMaximum& a) {
  begin(device, a.ticket, "all_ranks_maximum", [&](Nccl::Native& n) {
    for (const TensorView& x : a.tensors) {
      require_operands(x.dtype == DType::i32, "all_ranks_maximum takes i32");
      reduce(n, x, NcclFunctions::i32, NcclFunctions::maximum);
    }
  });
}

void all_ranks_gather(CudaDevice& device, const AllRanksGather& a) {
  begin(device, a.ticket, "all_ranks_gather", [&](Nccl::Native& n) {
    for (const auto& [mine, all] : a.tensors) {
      require_operands(
          mine.dtype == all.dtype && mine.contiguous() && all.contiguous() && all.elements() == n.size * mine.elements(),
          "all_ranks_gather: the result must be contiguous, of the same type, with the elements of all ranks");
      const std::size_t bytes = static_cast<std::size_t>(mine.elements()) * size_of(mine.dtype);
      require_nccl(nccl().all_gather(mine.data, all.data, bytes, NcclFunctions::bytes, n.communicator, n.stream),
                   "a gathering from ranks");
    }
  });
}

void all_ranks_wait(CudaDevice& device, int ticket) {
  Nccl::Native& n = device.native().nccl->native();
  require_cuda(cudaStreamWaitEvent(stream_of(device), n.done[ticket]), "all_ranks_wait");
  if (ticket == n.latest) leave_multiprocessors(device, 0);
}

}  // namespace neurogen

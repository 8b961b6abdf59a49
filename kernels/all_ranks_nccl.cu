#include "kernels/all_ranks_nccl.cuh"

namespace neurogen {
namespace {

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
      throw Error(std::string("a sum over ranks does not take ") + name_of(type));
  }
}

// add(tensor) for all tensors, as one operation.
template <typename Tensors, typename Add>
void group(const Tensors& tensors, const char* what, Add&& add) {
  require_nccl(nccl().group_start(), what);
  for (const auto& tensor : tensors) require_nccl(add(tensor), what);
  require_nccl(nccl().group_end(), what);
}

const TensorView& contiguous(const TensorView& x) {
  require_operands(x.contiguous(), "all_ranks: tensors must be contiguous");
  return x;
}
std::size_t elements_of(const TensorView& x) { return static_cast<std::size_t>(contiguous(x).elements()); }
std::size_t bytes_of(const TensorView& x) { return size_of(contiguous(x)); }

}  // namespace

void sum_by_nccl(Nccl::Native& n, const AllRanksSum& a) {
  group(a.tensors, "a sum over ranks", [&](const TensorView& x) {
    return nccl().all_reduce(x.data, x.data, elements_of(x), type_of(x.dtype), NcclFunctions::sum, n.communicator, n.stream);
  });
}

void reduce_by_nccl(Nccl::Native& n, const AllRanksReduce& a) {
  group(a.tensors, "a sum on one rank", [&](const AllRanksReduce::Of& of) {
    const auto& [x, root] = of;
    return nccl().reduce(x.data, x.data, elements_of(x), type_of(x.dtype), NcclFunctions::sum, root, n.communicator, n.stream);
  });
}

void broadcast_by_nccl(Nccl::Native& n, const AllRanksBroadcast& a) {
  group(a.tensors, "passing on what one rank has", [&](const AllRanksBroadcast::Of& of) {
    const auto& [x, root] = of;
    return nccl().broadcast(x.data, x.data, bytes_of(x), NcclFunctions::bytes, root, n.communicator, n.stream);
  });
}

void maximum_by_nccl(Nccl::Native& n, const AllRanksMaximum& a) {
  group(a.tensors, "a maximum over ranks", [&](const TensorView& x) {
    require_operands(x.dtype == DType::i32, "all_ranks_maximum takes i32");
    return nccl().all_reduce(x.data, x.data, elements_of(x), NcclFunctions::i32, NcclFunctions::maximum, n.communicator, n.stream);
  });
}

void gather_by_nccl(Nccl::Native& n, const AllRanksGather& a) {
  group(a.tensors, "a gathering from ranks", [&](const AllRanksGather::Of& of) {
    const auto& [mine, all] = of;
    require_operands(mine.dtype == all.dtype && bytes_of(all) == static_cast<std::size_t>(n.size) * bytes_of(mine),
                     "all_ranks_gather: the result must be of the same type, with the elements of all ranks");
    return nccl().all_gather(mine.data, all.data, bytes_of(mine), NcclFunctions::bytes, n.communicator, n.stream);
  });
}

}  // namespace neurogen

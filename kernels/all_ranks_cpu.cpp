#include <fmt/format.h>

#include "kernels/all_ranks.h"
#include "kernels/base/dispatch.h"
#include "kernels/base/half.h"
#include "kernels/base/shared_ranks.h"

namespace neurogen {
namespace {

constexpr int kEvery = -1;  // instead of one rank's number

// x = combine(combine(x of rank 0, x of rank 1), ...), on one rank or on every one.
template <typename T, typename Combine>
void combine_all(SharedRanks& ranks, const TensorView& x, int root, Combine&& combine) {
  require(x.contiguous(), "all_ranks: tensors must be contiguous");
  ranks.exchange(x.data, size_of(x), [&](Bytes begin, Bytes count) {
    if (root != kEvery && root != ranks.rank()) return;
    T* const to = x.as<T>() + begin / sizeof(T);
    for (std::size_t i = 0; i < count / sizeof(T); ++i) {
      const auto of = [&](int rank) { return reinterpret_cast<const T*>(ranks.of(rank))[i]; };
      to[i] = combine(of);
    }
  });
}

template <typename T>
void sum_of(SharedRanks& ranks, const TensorView& x, int root) {
  combine_all<T>(ranks, x, root, [&](auto&& of) {
    if constexpr (sizeof(T) > 2) {
      T total = of(0);
      for (int rank = 1; rank < ranks.size(); ++rank) total += of(rank);
      return total;
    } else {  // in 16 bits: rounded once
      float total = widen(of(0));
      for (int rank = 1; rank < ranks.size(); ++rank) total += widen(of(rank));
      T rounded;
      narrow(total, rounded);
      return rounded;
    }
  });
}

void sum(SharedRanks& ranks, const TensorView& x, int root) {
  switch (x.dtype) {
    case DType::f32:
      return sum_of<float>(ranks, x, root);
    case DType::f64:
      return sum_of<double>(ranks, x, root);
    case DType::bf16:
      return sum_of<Bf16>(ranks, x, root);
    case DType::f16:
      return sum_of<F16>(ranks, x, root);
    default:
      throw Error(fmt::format("a sum over ranks does not take {}", name_of(x.dtype)));
  }
}

}  // namespace

int rank_of(const CpuDevice& device) { return device.has_ranks() ? device.ranks().rank() : 0; }

void all_ranks_sum(CpuDevice& device, const AllRanksSum& a) {
  for (const TensorView& x : a.tensors) sum(device.ranks(), x, kEvery);
}

void all_ranks_reduce(CpuDevice& device, const AllRanksReduce& a) {
  for (const auto& [x, root] : a.tensors) sum(device.ranks(), x, root);
}

void all_ranks_broadcast(CpuDevice& device, const AllRanksBroadcast& a) {
  SharedRanks& ranks = device.ranks();
  for (const auto& [x, root] : a.tensors) {
    require(x.contiguous(), "all_ranks: tensors must be contiguous");
    ranks.exchange(x.data, size_of(x), [&, root = root, to = x.as<std::byte>()](Bytes begin, Bytes count) {
      std::memcpy(to + begin, ranks.of(root), count);
    });
  }
}

void all_ranks_maximum(CpuDevice& device, const AllRanksMaximum& a) {
  SharedRanks& ranks = device.ranks();
  for (const TensorView& x : a.tensors) {
    require(x.dtype == DType::i32, "all_ranks_maximum takes i32");
    combine_all<std::int32_t>(ranks, x, kEvery, [&](auto&& of) {
      std::int32_t most = of(0);
      for (int rank = 1; rank < ranks.size(); ++rank) most = std::max(most, of(rank));
      return most;
    });
  }
}

void all_ranks_gather(CpuDevice& device, const AllRanksGather& a) {
  SharedRanks& ranks = device.ranks();
  for (const auto& [mine, all] : a.tensors) {
    require(mine.dtype == all.dtype && mine.contiguous() && all.contiguous() && all.elements() == ranks.size() * mine.elements(),
            "all_ranks_gather: the result must be contiguous, of the same type, with the elements of all ranks");
    const Bytes bytes = size_of(mine);
    ranks.exchange(mine.data, bytes, [&, to = all.as<std::byte>()](Bytes begin, Bytes count) {
      for (int rank = 0; rank < ranks.size(); ++rank)
        std::memcpy(to + static_cast<Bytes>(rank) * bytes + begin, ranks.of(rank), count);
    });
  }
}

void all_ranks_wait(CpuDevice&, int) {}

}  // namespace neurogen

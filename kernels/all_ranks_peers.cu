#include "kernels/all_ranks_peers.cuh"

namespace neurogen {
namespace {

// All ranks launch the same blocks, which begin when those of all ranks are there, so that their tensors are complete, and end
// together. One rank adds an element of all, in the order of ranks, so all receive the same bits.
constexpr int kThreads = 512;
constexpr Bytes kPiece = Bytes{64} << 10;  // of an operation, that is worth a block
constexpr unsigned kCluster = 4;           // blocks

template <typename T>
using Accumulator = std::conditional_t<std::is_same_v<T, double> || std::is_same_v<T, std::int32_t>, T, float>;

template <typename T>
using Vector = Neighbours<static_cast<int>(16 / sizeof(T)), T>;

template <typename T>
__device__ Accumulator<T> widened(T x) {
  if constexpr (std::is_same_v<T, Accumulator<T>>) return x;
  else return to_float(x);
}
template <typename T>
__device__ T narrowed(Accumulator<T> x) {
  if constexpr (std::is_same_v<T, Accumulator<T>>) return x;
  else return from_float<T>(x);
}

struct Plus {
  template <typename T>
  __device__ T operator()(T x, T y) const {
    return x + y;
  }
};
struct Larger {
  template <typename T>
  __device__ T operator()(T x, T y) const {
    return x > y ? x : y;
  }
};

constexpr int kEverywhere = -1;

// A kernel's argument.
template <typename T>
struct List {
  T items[kMostSeveral];
  int count = 0;

  void add(const T& item) { items[count++] = item; }
};

// Hands the pieces of one tensor after another out to blocks in turns, so that all have equally many.
struct Turns {
  unsigned next = 0;  // whose turn it is

  // Calls body(i, count) for the elements of [begin, end) that are this thread's: `count` of them from i on, at a distance of
  // kThreads: kUnroll, so that as many loads are under way, or 1 near the end.
  template <int kUnroll, typename Body>
  __device__ void each(std::int64_t begin, std::int64_t end, Body&& body) {
    constexpr int kPieces = kThreads * kUnroll;
    const std::int64_t pieces = (end - begin + kPieces - 1) / kPieces;
    for (std::int64_t piece = (blockIdx.x + gridDim.x - next) % gridDim.x; piece < pieces; piece += gridDim.x) {
      const std::int64_t first = begin + piece * kPieces, last = min(first + kPieces, end);
      if (first + kPieces == last) body(first + threadIdx.x, std::integral_constant<int, kUnroll>{});
      else
        for (std::int64_t i = first + threadIdx.x; i < last; i += kThreads) body(i, std::integral_constant<int, 1>{});
    }
    next = static_cast<unsigned>((next + pieces) % gridDim.x);
  }
};

// A tensor and who receives the result: one rank, or all.
template <typename T>
struct Operand {
  T* x;
  std::int64_t elements;
  int root;
};

// Elements [begin, end) that this rank combines, all of one tensor or its share.
struct Range {
  std::int64_t begin, end;
};
__device__ Range share_of(std::int64_t n, int root, const AllPeers& all) {
  if (root != kEverywhere) return {0, root == all.rank ? n : 0};
  return {n * all.rank / all.size, n * (all.rank + 1) / all.size};
}

template <typename T>
__device__ bool is_aligned(const T* x) {
  return reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
}

// Writes a result on the root, which is this rank, or everywhere.
template <typename T>
__device__ void put(const AllPeers& all, T* to, const T& result, int root) {
  if (root != kEverywhere) *to = result;
  else
    for (int r = 0; r < all.size; ++r) *all.at(to, r) = result;
}

// Combines x of all ranks. T is Each, or a Vector of it.
template <typename T, typename Each, typename Combine>
__device__ void combine(const AllPeers& all, Turns& turns, T* x, Range range, int root, Combine with) {
  constexpr int kEach = sizeof(T) / sizeof(Each);
  turns.each<2>(range.begin, range.end, [&](std::int64_t i, auto count) {
    constexpr int n = decltype(count)::value;
    Accumulator<Each> total[n][kEach];
    for (int r = 0; r < all.size; ++r) {
      T its[n];
#pragma unroll
      for (int u = 0; u < n; ++u) its[u] = *all.at(x + i + u * kThreads, r);
#pragma unroll
      for (int u = 0; u < n; ++u)
#pragma unroll
        for (int e = 0; e < kEach; ++e) {
          const auto value = widened(reinterpret_cast<const Each*>(&its[u])[e]);
          total[u][e] = r == 0 ? value : with(total[u][e], value);
        }
    }
#pragma unroll
    for (int u = 0; u < n; ++u) {
      T result;
#pragma unroll
      for (int e = 0; e < kEach; ++e) reinterpret_cast<Each*>(&result)[e] = narrowed<Each>(total[u][e]);
      put(all, x + i + u * kThreads, result, root);
    }
  });
}

// The same of two ranks, with more of the other's elements under way at once.
template <typename T, typename Each, typename Combine>
__device__ void combine_two(const AllPeers& all, Turns& turns, T* x, Range range, int root, Combine with) {
  constexpr int kEach = sizeof(T) / sizeof(Each);
  turns.each<8>(range.begin, range.end, [&](std::int64_t i, auto count) {
    constexpr int n = decltype(count)::value;
    const T* const its = all.at(x + i, 1 - all.rank);
    T far[n], near[n];
#pragma unroll
    for (int u = 0; u < n; ++u) far[u] = its[u * kThreads];
#pragma unroll
    for (int u = 0; u < n; ++u) near[u] = x[i + u * kThreads];
#pragma unroll
    for (int u = 0; u < n; ++u) {
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
        Each& one = reinterpret_cast<Each*>(&near[u])[e];
        one = narrowed<Each>(with(widened(one), widened(reinterpret_cast<const Each*>(&far[u])[e])));
      }
      put(all, x + i + u * kThreads, near[u], root);
    }
  });
}

template <typename T, bool kTwo, typename Combine>
__global__ void __launch_bounds__(kThreads, 1) combine_all(AllPeers all, List<Operand<T>> operands, Combine with) {
  constexpr int kEach = 16 / sizeof(T);
  Turns turns;
  all.meet();
  for (int k = 0; k < operands.count; ++k) {
    const Operand<T>& o = operands.items[k];
    const std::int64_t vectors = is_aligned(o.x) ? o.elements / kEach : 0, rest = vectors * kEach;
    auto* const x = reinterpret_cast<Vector<T>*>(o.x);
    const Range most = share_of(vectors, o.root, all), last = share_of(o.elements - rest, o.root, all);
    if constexpr (kTwo) combine_two<Vector<T>, T>(all, turns, x, most, o.root, with);
    else combine<Vector<T>, T>(all, turns, x, most, o.root, with);
    combine<T, T>(all, turns, o.x, {rest + last.begin, rest + last.end}, o.root, with);
  }
  all.meet();
}

// Bytes that a rank copies to the same place on all others.
struct Passed {
  const std::byte* from;
  std::byte* to;
  std::int64_t bytes;
  int root;
  bool own;  // also to this rank's place
};

template <typename T>
__device__ void pass(const AllPeers& all, Turns& turns, const Passed& p, std::int64_t begin) {
  const T* const from = reinterpret_cast<const T*>(p.from + begin);
  T* const to = reinterpret_cast<T*>(p.to + begin);
  turns.each<8>(0, (p.bytes - begin) / static_cast<std::int64_t>(sizeof(T)), [&](std::int64_t i, auto count) {
    constexpr int n = decltype(count)::value;
    T x[n];
#pragma unroll
    for (int u = 0; u < n; ++u) x[u] = from[i + u * kThreads];
    for (int r = 0; r < all.size; ++r) {
      if (r == all.rank && !p.own) continue;
      T* const its = all.at(to + i, r);
#pragma unroll
      for (int u = 0; u < n; ++u) its[u * kThreads] = x[u];
    }
  });
}

__global__ void __launch_bounds__(kThreads, 1) pass_all(AllPeers all, List<Passed> list) {
  Turns turns;
  all.meet();
  for (int k = 0; k < list.count; ++k) {
    const Passed& p = list.items[k];
    if (p.root != all.rank) continue;
    const bool aligned = is_aligned(p.from) && is_aligned(p.to);
    if (aligned) pass<uint4>(all, turns, p, 0);
    pass<unsigned char>(all, turns, p, aligned ? p.bytes / 16 * 16 : 0);
  }
  all.meet();
}

// Launches blocks for so many bytes. `alone`: nothing runs beside them.
template <typename... Parameters>
void launch(const Peers::Native& n, const char* what, void (*kernel)(AllPeers, Parameters...), Bytes bytes, bool alone,
            const Parameters&... arguments) {
  const int most = alone ? std::min(n.multiprocessors / 4, kPeerBlocks) : n.taken;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(std::clamp<Bytes>(bytes / kPiece, 1, static_cast<Bytes>(std::max(most, 1))));
  config.blockDim = kThreads;
  config.stream = n.stream;
  // In one part of the GPU, so that elsewhere products, whose blocks come in pairs, find both multiprocessors of each.
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeClusterDimension;
  together.val.clusterDim = {kCluster, 1, 1};
  config.attrs = &together;
  config.numAttrs = n.clusters && config.gridDim.x % kCluster == 0 ? 1 : 0;
  require_cuda(cudaLaunchKernelEx(&config, kernel, n.all, arguments...), what);
}

Bytes checked_bytes(const Peers::Native& n, const TensorView& x) {
  const Bytes bytes = size_of(x);
  const auto* const first = static_cast<const std::byte*>(x.data);
  require_operands(x.contiguous(), "all_ranks: tensors must be contiguous");
  require_operands(first >= n.arena && first + bytes <= n.arena + n.arena_bytes, "all_ranks: tensors must lie in the arena");
  return bytes;
}

template <typename T, typename Combine>
void combine(Peers::Native& n, const Several<AllRanksReduce::Of>& list, Combine with, bool alone, const char* what) {
  List<Operand<T>> operands;
  Bytes bytes = 0;
  for (const auto& [x, root] : list) {
    bytes += checked_bytes(n, x);
    operands.add({x.template as<T>(), x.elements(), root});
  }
  const auto kernel = n.size == 2 ? combine_all<T, true, Combine> : combine_all<T, false, Combine>;
  launch(n, what, kernel, bytes, alone, operands, with);
}

// Tensors of one type at a time.
void sum(Peers::Native& n, const Several<AllRanksReduce::Of>& tensors, bool alone) {
  const auto of_type = [&](DType type, auto value) {
    Several<AllRanksReduce::Of> list;
    for (const AllRanksReduce::Of& one : tensors)
      if (one.x.dtype == type) list.add(one);
    if (list.begin() != list.end()) combine<decltype(value)>(n, list, Plus{}, alone, "a sum over ranks");
  };
  for (const AllRanksReduce::Of& one : tensors) {
    const DType type = one.x.dtype;
    require_operands(type == DType::f32 || type == DType::f64 || type == DType::bf16 || type == DType::f16,
                     "a sum over ranks takes floating-point numbers");
  }
  of_type(DType::f32, float{});
  of_type(DType::f64, double{});
  of_type(DType::bf16, __nv_bfloat16{});
  of_type(DType::f16, __half{});
}

void pass(Peers::Native& n, const List<Passed>& list, bool alone, const char* what) {
  Bytes bytes = 0;
  for (int k = 0; k < list.count; ++k) bytes += static_cast<Bytes>(list.items[k].bytes);
  launch(n, what, pass_all, bytes, alone, list);
}

}  // namespace

void sum_over_peers(Peers::Native& n, const AllRanksSum& a) {
  Several<AllRanksReduce::Of> tensors;
  for (const TensorView& x : a.tensors) tensors.add({x, kEverywhere});
  sum(n, tensors, a.alone);
}

void reduce_over_peers(Peers::Native& n, const AllRanksReduce& a) { sum(n, a.tensors, a.alone); }

void maximum_over_peers(Peers::Native& n, const AllRanksMaximum& a) {
  Several<AllRanksReduce::Of> tensors;
  for (const TensorView& x : a.tensors) {
    require_operands(x.dtype == DType::i32, "all_ranks_maximum takes i32");
    tensors.add({x, kEverywhere});
  }
  combine<std::int32_t>(n, tensors, Larger{}, true, "a maximum over ranks");
}

void gather_from_peers(Peers::Native& n, const AllRanksGather& a) {
  List<Passed> list;
  for (const auto& [mine, all] : a.tensors) {
    const Bytes bytes = checked_bytes(n, mine);
    require_operands(mine.dtype == all.dtype && checked_bytes(n, all) == static_cast<Bytes>(n.size) * bytes,
                     "all_ranks_gather: the result must be of the same type, with the elements of all ranks");
    list.add({mine.as<std::byte>(), all.as<std::byte>() + static_cast<Bytes>(n.rank) * bytes, static_cast<std::int64_t>(bytes),
              n.rank, true});
  }
  pass(n, list, true, "a gathering from ranks");
}

void broadcast_to_peers(Peers::Native& n, const AllRanksBroadcast& a) {
  List<Passed> list;
  for (const auto& [x, root] : a.tensors)
    list.add({x.as<std::byte>(), x.as<std::byte>(), static_cast<std::int64_t>(checked_bytes(n, x)), root, false});
  pass(n, list, a.alone, "passing on to ranks");
}

}  // namespace neurogen

// A warp takes 16 of a column group's 32 outputs with all their roles, a round of 32 tokens at a time, in registers from the
// currents' product to the last state. Two warps, a pair, take a group's round.
//
// Currents are computed as [neurons, tokens], so that a thread holds all roles of its outputs: element (role, side, k) is output
// lane / 4 + 8 side of the warp's 16 and token 8 (lane % 4) + k of the round. A quad of lanes holds all tokens of an output, so the
// recurrence is composed among four lanes. Tensor cores take tokens in any order: the sources' rows are addressed in this one.
#pragma once
#include "kernels/brain/cortical_columns_cuda.cuh"

namespace neurogen {

// First the sums of the sources, then currents.
template <int R>
struct RoundCurrents {
  Accumulators<R, 4> of;
  __device__ float& at(int role, int side, int k) { return of[role][k / 2][2 * side + k % 2]; }
};

// Turns a side's sums into currents. `neurons`: at the lane's output; starts: the round's tokens that begin a document, as bits.
// entering(role) gives the sum of the token before the lane's first.
template <int R, typename Entering>
__device__ inline void apply_taps(RoundCurrents<R>& u, int side, const Neuron* neurons, unsigned starts, Entering&& entering) {
  const auto apply = [&](auto inside) {  // whether a document begins behind the round's first token
    const unsigned mine = starts >> thread_again() % 4 * kQuadTokens;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const Neuron n = neurons[r * kLanes];
      const float before = entering(r);
#pragma unroll
      for (int k = kQuadTokens - 1; k >= 0; --k) {
        const float delayed = n.before * (k > 0 ? u.at(r, side, k - 1) : before) + n.bias;
        u.at(r, side, k) = n.now * u.at(r, side, k) + ((k == 0 || inside.value) && (mine >> k & 1) ? n.bias : delayed);
      }
    }
  };
  if (starts >> 1 == 0) apply(std::false_type{});
  else apply(std::true_type{});
}

// From a lane's value to its neighbour's in the quad, and from the last lane's to the first: towards later or earlier tokens.
template <typename T>
__device__ inline T to_next_lane(T x) {
  return __shfl_sync(0xFFFFFFFFu, x, static_cast<int>((thread_again() + 3) % 4), 4);
}
template <typename T>
__device__ inline T to_previous_lane(T x) {
  return __shfl_sync(0xFFFFFFFFu, x, static_cast<int>((thread_again() + 1) % 4), 4);
}

// The recurrence of a round, whose tokens a quad of lanes holds: each lane's map becomes that of its tokens and all before them (in
// reverse: after them).
template <bool reverse>
struct QuadScan {
  static constexpr unsigned kAll = 0xFFFFFFFFu;
  Map to_here;

  static __device__ int place() { return static_cast<int>(reverse ? 3 - thread_again() % 4 : thread_again() % 4); }
  static __device__ float from_before(float x, int lanes) {
    return reverse ? __shfl_down_sync(kAll, x, lanes, 4) : __shfl_up_sync(kAll, x, lanes, 4);
  }

  __device__ void compose(Map mine) {
    to_here = mine;
    const int here = place();
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
      const float scale = from_before(to_here.scale, lanes), shift = from_before(to_here.shift, lanes);
      if (here >= lanes) to_here.shift += to_here.scale * shift, to_here.scale *= scale;
    }
  }
  // Whether this is the last lane, whose map is the round's.
  __device__ bool whole() const { return place() == 3; }
  // Returns the state before this lane's tokens; moves `state` from before the round to after it.
  __device__ float enter(float& state) const {
    const float after = to_here.scale * state + to_here.shift, previous = from_before(after, 1);
    const float entering = place() == 0 ? state : previous;
    state = __shfl_sync(kAll, after, reverse ? 0 : 3, 4);
    return entering;
  }
};

__device__ inline float element(const std::uint32_t (&pairs)[kQuadTokens / 2], int k) {
  return __uint_as_float(k % 2 == 0 ? pairs[k / 2] << 16 : pairs[k / 2] & 0xFFFF0000u);
}

// Two sums or products, each rounded.
__device__ inline __nv_bfloat162 pair_of(const std::uint32_t& x) { return reinterpret_cast<const __nv_bfloat162&>(x); }
__device__ inline std::uint32_t bits_of(const __nv_bfloat162& x) { return reinterpret_cast<const std::uint32_t&>(x); }
__device__ inline std::uint32_t add_pairs(std::uint32_t a, std::uint32_t b) { return bits_of(__hadd2(pair_of(a), pair_of(b))); }
__device__ inline std::uint32_t multiply_pairs(std::uint32_t a, std::uint32_t b) {
  return bits_of(__hmul2(pair_of(a), pair_of(b)));
}
__device__ inline std::uint32_t multiply_add_pairs(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
#if __CUDA_ARCH__ >= 800
  return bits_of(__hfma2(pair_of(a), pair_of(b), pair_of(c)));
#else
  return add_pairs(multiply_pairs(a, b), c);  // for the compiler: the columns need 8.0
#endif
}

// A warp's own [32 tokens, 16 outputs] tile in bf16.
struct OutputTile {
  static constexpr int kPitch = kWarpOutputs + kVector<Low>;
  static constexpr unsigned kQuadRows = tile_row(kQuadTokens, kPitch);  // from a lane's tokens to the next lane's
  static constexpr std::size_t kBytes = sizeof(Low) * tile_row(kRound, kPitch);
  unsigned memory;

  __device__ explicit OutputTile(const Low* tile) : memory(shared_address(tile)) {}

  // Starts loading a round, for the 16 outputs from `column` on. Tokens beyond the window's end become zeros.
  template <typename From>
  __device__ void load(const Columns<From>& from, const ColumnsArguments& a, int window, int begin, int column) const {
    const int lane = static_cast<int>(thread_again() % 32), part = lane % 2 * kVector<Low>, last = a.window - 1 - begin;
    const Low* const first = from.at(static_cast<std::int64_t>(window) * a.window + begin, column + part);
#pragma unroll
    for (int r = 0; r < kRound; r += 16) {
      const int row = lane / 2 + r;
      copy_behind(memory + 2 * static_cast<unsigned>(tile_row(row, kPitch) + part), first + min(row, last) * from.stride,
                  row <= last);
    }
  }
  // Reads this thread's values of one side, in pairs of tokens.
  __device__ void read(std::uint32_t (&pairs)[kQuadTokens / 2], int side) const {
    const unsigned lane = thread_again() % 32, near = lane % 8;
    // Matrix j: tokens 2 j and 2 j + 1 of each lane.
    const unsigned row = near / 2 * kQuadRows + (near % 2 + lane / 8 * 2) * kPitch;
    load_matrices<true>(pairs, memory + 2 * (row + 8 * static_cast<unsigned>(side)));
  }
  // Writes this thread's values of one side into the tile.
  __device__ void write(const std::uint32_t (&pairs)[kQuadTokens / 2], int side) const {
    __syncwarp();  // all lanes have read the previous values
    const unsigned lane = thread_again() % 32, near = lane / 4;
    const unsigned row = memory + 2 * (near / 2 * kQuadRows + near % 2 * kPitch + 8 * static_cast<unsigned>(side) + lane % 4 * 2);
#pragma unroll
    for (unsigned j = 0; j < kQuadTokens / 2; ++j) {
      std::uint32_t outputs;  // two outputs of a token, from two tokens of an output
      asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(outputs) : "r"(pairs[j]));
      asm volatile("st.shared.b32 [%0], %1;" ::"r"(row + 2 * 2 * kPitch * j), "r"(outputs) : "memory");
    }
  }
  // Stores the whole tile to memory; the warp must be synchronised.
  __device__ void store(const Columns<Low>& to, const ColumnsArguments& a, int window, int begin, int column) const {
    const int lane = static_cast<int>(thread_again() % 32), part = lane % 2 * kVector<Low>;
    Low* const first = to.at(window * a.window + begin + lane / 2, column + part);
#pragma unroll
    for (int r = 0; r < kRound; r += 16) {
      const int row = lane / 2 + r;
      uint4 v;
      asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "r"(memory + 2 * static_cast<unsigned>(tile_row(row, kPitch) + part))
                   : "memory");
      if (begin + row < a.window) *reinterpret_cast<uint4*>(first + r * to.stride) = v;
    }
  }
};

// One warp's currents of a round.
template <int R>
struct CurrentsProduct {
  const GroupMemory<R>& x;
  // This lane's addresses in shared memory: of the first tile of sources, of the weights, of the token before the first tile.
  unsigned rows, columns, before;

  __device__ CurrentsProduct(const GroupMemory<R>& group, const Low* sources) : x(group) {
    const unsigned thread = thread_again(), lane = thread % 32, near = lane % 8, second = lane / 8 % 2 * 8,
                   half = thread / 32 % 2 * kWarpOutputs;
    // Matrices of 8 tokens and 8 sources: for j, sources 0-7 and 8-15, then for j + 1.
    rows =
        shared_address(sources) +
        2 * (static_cast<unsigned>(tile_row(static_cast<int>(near / 2 * 8 + near % 2 + lane / 16 * 2), x.source_pitch())) + second);
    columns = shared_address(x.weight) +
              2 * (static_cast<unsigned>(tile_row(static_cast<int>(near + lane / 16 * 8), GroupMemory<R>::kPitch)) + half + second);
    before = shared_address(sources) + 2 * (static_cast<unsigned>(tile_row(kRound, x.source_pitch())) + second);
  }
  // Takes addresses that were computed before.
  __device__ CurrentsProduct(const GroupMemory<R>& group, unsigned lane_rows, unsigned lane_columns, unsigned lane_before)
      : x(group), rows(lane_rows), columns(lane_columns), before(lane_before) {}

  // s = weight^T sources^T. `tile`: bytes from the first tile.
  __device__ void run(RoundCurrents<R>& s, unsigned tile) const {
    Accumulators<R, 1> none;
    run<false>(s, none, tile);
  }
  // Also gives every lane the sums of the token before the round: those of side 0 in element 0, of side 1 in element 2.
  __device__ void run(RoundCurrents<R>& s, Accumulators<R, 1>& s_before, unsigned tile) const { run<true>(s, s_before, tile); }

 private:
  template <bool with_before>
  __device__ void run(RoundCurrents<R>& s, Accumulators<R, 1>& s_before, unsigned tile) const {
    const unsigned pitch = 2 * static_cast<unsigned>(x.source_pitch());
    unsigned row = rows + tile, column = columns, row_before = before + tile;
    clear_accumulators<R, 4>(s.of);
    if constexpr (with_before) clear_accumulators<R, 1>(s_before);
#pragma unroll 1
    for (int k = 0; k < x.a.fan_in; k += 16) {
      std::uint32_t sources[2][4], of_before[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) load_matrices<false>(sources[i], row + 4 * pitch * i);
      if constexpr (with_before) load_matrices(of_before, row_before);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        std::uint32_t neurons[4];
        load_matrices<true>(neurons, column + 2 * kLanes * r);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          multiply_add<Low>(s.of[r][j], neurons, sources[j / 2][j % 2 * 2], sources[j / 2][j % 2 * 2 + 1]);
        if constexpr (with_before) multiply_add<Low>(s_before[r][0], neurons, of_before[0], of_before[1]);
      }
      row += 32, row_before += 32, column += 2 * tile_row(16, GroupMemory<R>::kPitch);
    }
  }
};

}  // namespace neurogen

// What the cortical columns' CUDA kernels share: a block's view of one column group.
//
// A block keeps its group's weights in shared memory and takes a round of kTokens tokens after the other: what they need is
// copied in, teams of R warps multiply (some rows and one role each) and leave the currents in shared memory, from where most
// of them scan the recurrence, a lane an output (microcircuit_cuda.cuh).
#pragma once
#include <algorithm>
#include <type_traits>

#include "kernels/cortical_columns.h"
#include "kernels/cuda_tile.cuh"
#include "kernels/microcircuit_cuda.cuh"
#include "kernels/synapses_cuda.cuh"

namespace neurogen {

using Low = __nv_bfloat16;
static_assert(kColumnsMostFanIn == 16 * kVector<Low>);
inline constexpr int kCarryTokens = static_cast<int>(kCarry);

// At most what kernels declare by themselves, beside the memory that is asked for at the launch: maps, and a few words.
inline constexpr std::size_t kDeclaredBytes = 2 * 8 * sizeof(Map) * kLanes + 256;

struct ColumnsArguments {
  SourceTable sources;
  const int* wiring;
  const Low* weight;
  const float* bias;
  std::int64_t bias_stride;
  const float* retain;
  const int* first;
  int fan_in, slots, width_bits, window, windows, carries;
  Columns<const Low> opener;
  const float* gate_bias;
  int stripe, opener_vectors;  // 16-byte vectors that hold the openers of any group
  Columns<const Low> residual;
  float* carried;  // null: none
  std::int64_t carried_stride;
};

template <int R, int kTokensInRound, int kRowTilesOfWarp, int kTilesOfSources = 1, int kTilesOfCurrents = 1>
struct ColumnGroup {
  static constexpr int kRoles = R, kTokens = kTokensInRound, kSourceTiles = kTilesOfSources, kCurrentTiles = kTilesOfCurrents;
  static constexpr int kRowTiles = kRowTilesOfWarp, kRows = 16 * kRowTiles;  // of a warp's product
  static constexpr int kTeams = kTokens / kRows, kWarps = kTeams * R, kThreads = 32 * kWarps;
  static constexpr int kScanWarps = (R < 4 ? 2 : 4) * kTeams, kRun = R < 4 ? 8 : 4;  // a run: a warp's tokens in a scan
  static constexpr int kScanTokens = kScanWarps * kRun;
  static constexpr int kColumns = 32 * R, kPitch = pitch_of<Low>(kColumns);

  // Products take 32 sources at a time: behind the last, weights and sources are zeros.
  __host__ __device__ static constexpr int padded(int fan_in) { return (fan_in + 31) / 32 * 32; }
  // Where row f of the weights lies: eight neighbouring rows, and rows 0, 1, 8, 9, 16, 17, 24, 25, are in different banks.
  __host__ __device__ static constexpr int weight_row(int f) { return f * kPitch + f / 8 * 16; }

  // Parts of the block's shared memory, each a multiple of 16 bytes: weights, sources, currents, where the sources lie, and
  // what a kernel adds behind.
  static constexpr std::size_t shared_bytes(int fan_in, int slots) {
    return sizeof(Low) * static_cast<std::size_t>(weight_row(padded(fan_in)) + kSourceTiles * kTokens * pitch_of<Low>(padded(fan_in))) +
           sizeof(float) * static_cast<std::size_t>(kCurrentTiles * kTokens * kPitch) + sizeof(BlockRows<Low>) * static_cast<std::size_t>(slots);
  }

  const ColumnsArguments& a;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int group, column;  // column: this lane's output
  const int depth, source_pitch;
  Low *const weight, *const sources;
  float* const currents;
  BlockRows<const Low>* const slots;

  __device__ ColumnGroup(const ColumnsArguments& arguments, int g)
      : a(arguments), group(g), column(g * kLanes + lane), depth(padded(arguments.fan_in)), source_pitch(pitch_of<Low>(depth)),
        weight(reinterpret_cast<Low*>(shared_memory)), sources(weight + weight_row(depth)),
        currents(reinterpret_cast<float*>(sources + kSourceTiles * kTokens * source_pitch)),
        slots(reinterpret_cast<BlockRows<const Low>*>(currents + kCurrentTiles * kTokens * kPitch)) {
    find_slots(a.sources, a.wiring + g * a.slots, a.slots, 1 << a.width_bits, slots);
    constexpr int kRow = kColumns / kVector<Low>;
    const int threads = static_cast<int>(blockDim.x);
    const Low* const from = a.weight + static_cast<std::int64_t>(g) * a.fan_in * kColumns;
    for (int v = thread; v < depth * kRow; v += threads) {
      const bool present = v < a.fan_in * kRow;
      copy_behind(weight + weight_row(v / kRow) + v % kRow * kVector<Low>, present ? from + v * kVector<Low> : from, present);
    }
    close_stage();
    for (int i = thread; i < kSourceTiles * kTokens * (depth - a.fan_in); i += threads)
      sources[i / (depth - a.fan_in) * source_pitch + a.fan_in + i % (depth - a.fan_in)] = from_float<Low>(0.0f);
    __syncthreads();
  }

  __device__ float* current_tile(int i) const { return currents + i * kTokens * kPitch; }

  // What a thread of the warps from `first` on needs to know to load sources: the same sources of two rows at a time.
  struct SourceLoader {
    BlockRows<const Low> from{};
    unsigned row = kTokens, step, pitch, to;  // to: of its first row, in bytes

    __device__ explicit SourceLoader(const ColumnGroup& x, int first = 0)
        : step(static_cast<unsigned>(2 * (kWarps - first))), pitch(2 * static_cast<unsigned>(x.source_pitch)) {
      const int f = x.lane % 16 * kVector<Low>;
      if (f >= x.a.fan_in || x.warp < first) return;
      from = x.slots[f >> x.a.width_bits];
      from.data += f & ((1 << x.a.width_bits) - 1);
      row = static_cast<unsigned>(2 * (x.warp - first) + x.lane / 16);
      to = shared_address(x.sources + f) + row * pitch;
    }
    // Asks for a round's; rows behind the window's end become zeros.
    __device__ void load(const ColumnsArguments& a, int window, int begin, int tile) const {
      const int rows = min(a.window - begin, kTokens);
      const Low* const first = from.data + static_cast<std::int64_t>(window * a.window + begin) * from.stride;
      unsigned at = to + static_cast<unsigned>(tile) * kTokens * pitch;
#pragma unroll 1
      for (int r = static_cast<int>(row); r < kTokens; r += static_cast<int>(step), at += step * pitch)
        copy_behind(at, first + (r < rows ? r * static_cast<int>(from.stride) : 0), r < rows);
    }
  };
  // Asks for this group's outputs of a round, [kTokens, 32], as one of kBy threads; those behind the window's end, or not
  // present, become zeros.
  template <int kBy = kThreads, typename From, typename T>
  __device__ void load_outputs(const Columns<From>& from, int window, int begin, T* to, unsigned thread = thread_again(),
                               bool present = true) const {
    constexpr unsigned kRow = kLanes / kVector<T>;
    const From* const first = from.at(window * a.window + begin, group * kLanes + static_cast<int>(thread % kRow) * kVector<T>);
    const int stride = static_cast<int>(from.stride), last = a.window - 1 - begin;
#pragma unroll 1
    for (int row = static_cast<int>(thread / kRow); row < kTokens; row += kBy / static_cast<int>(kRow))
      copy_behind(to + row * kLanes + thread % kRow * kVector<T>, first + min(row, last) * stride, present && row <= last);
  }
  // Asks for what opens this group's gates, in whole vectors: [kTokens, opener_vectors of 8].
  template <int kBy = kThreads>
  __device__ void load_openers(int window, int begin, Low* to, unsigned thread = thread_again()) const {
    const int from = group * kLanes / a.stripe / kVector<Low>, last = (group * kLanes + kLanes - 1) / a.stripe / kVector<Low>;
#pragma unroll 1
    for (int v = static_cast<int>(thread); v < kTokens * a.opener_vectors; v += kBy) {
      const int row = v / a.opener_vectors, vector = from + v - row * a.opener_vectors;
      const std::int64_t n = static_cast<std::int64_t>(window) * a.window + min(begin + row, a.window - 1);
      if (vector <= last) copy_behind(to + v * kVector<Low>, a.opener.at(n, vector * kVector<Low>), true);
    }
  }
  // This lane's opener in a token's vectors.
  __device__ int opener_of_lane() const { return column / a.stripe - group * kLanes / a.stripe / kVector<Low> * kVector<Low>; }

  // One warp's part of the currents: its team's rows, one role.
  struct CurrentsProduct {
    const ColumnGroup& x;
    unsigned rows, columns;  // in shared memory: of tile 0 of the sources, and of the weights

    __device__ explicit CurrentsProduct(const ColumnGroup& group) : x(group) {
      const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, team = warp / R, role = warp % R;
      const unsigned near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
      rows = shared_address(x.sources) + 2 * ((team * kRows + near + second) * static_cast<unsigned>(x.source_pitch) + third);
      columns = shared_address(x.weight) + 2 * (static_cast<unsigned>(weight_row(static_cast<int>(near + second))) + role * 32 + third);
    }
    // currents = sources weight + bias, of these tiles. The caller synchronises before and after.
    __device__ void run(int source_tile, int current_tile) const {
      const unsigned pitch = 2 * static_cast<unsigned>(x.source_pitch);
      unsigned row = rows + static_cast<unsigned>(source_tile) * kTokens * pitch, column = columns;
      Accumulators<kRowTiles, 4> acc;
      const unsigned thread = thread_again();
      const float* const bias = x.a.bias + thread / 32 % R * x.a.bias_stride + x.group * kLanes + thread % 4 * 2;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 shift = __ldg(reinterpret_cast<const float2*>(bias + 8 * j));
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) acc[i][j][0] = acc[i][j][2] = shift.x, acc[i][j][1] = acc[i][j][3] = shift.y;
      }
      int k = 0;
#pragma unroll 1
      do {  // at least once, which spares the compiler a second set of accumulators
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          std::uint32_t part[kRowTiles][4], left[4], right[4];
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) load_matrices<false>(part[i], row + 16 * i * pitch + 32 * half);
          load_matrices<true>(left, column + 2 * weight_row(16) * half);
          load_matrices<true>(right, column + 2 * weight_row(16) * half + 32);
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) {
            multiply_add<Low>(acc[i][0], part[i], left[0], left[1]);
            multiply_add<Low>(acc[i][1], part[i], left[2], left[3]);
            multiply_add<Low>(acc[i][2], part[i], right[0], right[1]);
            multiply_add<Low>(acc[i][3], part[i], right[2], right[3]);
          }
        }
        row += 64, column += 2 * weight_row(32);
      } while ((k += 32) < x.depth);
      const unsigned lane = thread_again() % 32, warp = thread_again() / 32;
      float* const out = x.current_tile(current_tile) + (warp / R * kRows + lane / 4) * kPitch + warp % R * 32 + lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int e = 0; e < 4; e += 2)
            *reinterpret_cast<float2*>(out + (16 * i + 4 * e) * kPitch + 8 * j) = {acc[i][j][e], acc[i][j][e + 1]};
    }
  };

  // Of the lane's token, the 32 from `begin` on, the first of its document; and which of them are that themselves, as bits.
  __device__ int first_of_lane(int window, int begin) const {
    return __ldg(a.first + static_cast<std::int64_t>(window) * a.window + min(begin + lane, a.window - 1));
  }
  __device__ unsigned starts(int first, int begin) const { return __ballot_sync(0xFFFFFFFFu, first == begin + lane); }
};

inline int opener_vectors(const CorticalColumns& a) {
  std::int64_t most = 0;
  for (std::int64_t g = 0; a.gate.opener && g < a.weight[0]; ++g)
    most = std::max(most, (g * kGroup + kGroup - 1) / a.gate.stripe / kVector<Low> - g * kGroup / a.gate.stripe / kVector<Low> + 1);
  return static_cast<int>(most);
}

// Calls body(group, gated, shared bytes) with Wanted<R> where a block of this GPU has room for it, else with Frugal<R>.
// `per_token`: bytes more for each token of each tile of currents.
template <template <int> typename Wanted, template <int> typename Frugal, typename Body>
void dispatch_columns(CudaDevice& device, const CorticalColumns& a, std::size_t per_token, Body&& body) {
  const int fan_in = static_cast<int>(a.weight[1]), slots = static_cast<int>(a.wiring[1]);
  per_token += sizeof(Low) * kVector<Low> * static_cast<std::size_t>(opener_vectors(a));
  const auto shared = [&]<typename Group>(std::type_identity<Group>) {
    return Group::shared_bytes(fan_in, slots) + Group::kCurrentTiles * Group::kTokens * per_token;
  };
  dispatch_roles(static_cast<int>(a.weight[2] / kGroup), [&](auto roles) {
    const auto with = [&](auto group) {
      if (a.gate.opener) body(group, std::true_type{}, shared(group));
      else body(group, std::false_type{}, shared(group));
    };
    using Preferred = Wanted<roles.value>;
    const std::type_identity<Preferred> preferred;
    if (shared(preferred) + kDeclaredBytes <= device.native().properties.sharedMemPerBlockOptin) with(preferred);
    else with(std::type_identity<Frugal<roles.value>>{});
  });
}

inline ColumnsArguments arguments_of(const CorticalColumns& a) {
  const std::int64_t slots = a.wiring[1], fan_in = a.weight[1], width = slots > 0 ? fan_in / slots : 0, tokens = a.first[0];
  require_sources(a.sources, DType::bf16);
  require_operands(a.weight.dtype == DType::bf16 && a.weight.contiguous() && a.wiring.contiguous(),
                   "cortical columns: weights are bf16, they and the wiring contiguous");
  require_operands((width == 32 || width == 16) && width * slots == fan_in && fan_in <= kColumnsMostFanIn,
                   "cortical columns: source blocks are 32 or 16 wide, a fan-in is at most 128");
  require_operands(a.window > 0 && tokens % a.window == 0, "cortical columns: the tokens are not whole windows");
  require_operands(a.gate.first_output == 0 && (!a.residual || a.residual.dtype == DType::bf16) &&
                       (!a.gate.opener || a.gate.opener.dtype == DType::bf16),
                   "cortical columns: residual and opener are bf16, of a whole module");
  require_operands(!a.gate.opener || (a.gate.opener.row_stride % kVector<Low> == 0 && a.gate.stripe > 0),
                   "cortical columns: the opener's rows are not whole vectors");
  require_f32("cortical columns: bias, retain, gate's bias and states are f32", {a.bias, a.retain, a.gate.bias, a.carried});
  return {SourceTable(a.sources),
          a.wiring.as<const int>(),
          a.weight.as<const Low>(),
          a.bias.as<const float>(),
          a.bias.row_stride,
          a.retain.as<const float>(),
          a.first.as<const int>(),
          static_cast<int>(fan_in),
          static_cast<int>(slots),
          width == 32 ? 5 : 4,
          static_cast<int>(a.window),
          static_cast<int>(tokens / a.window),
          static_cast<int>(carries(a.window)),
          Columns<const Low>(a.gate.opener),
          a.gate.bias.as<const float>(),
          static_cast<int>(a.gate.stripe),
          opener_vectors(a),
          Columns<const Low>(a.residual),
          a.carried.as<float>(),
          a.carried.row_stride};
}

}  // namespace neurogen

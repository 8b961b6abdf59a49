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

template <int R, int kTokensInRound, int kRowTilesOfWarp, int kTilesOfSources>
struct ColumnGroup {
  static constexpr int kRoles = R, kTokens = kTokensInRound, kSourceTiles = kTilesOfSources;
  static constexpr int kRowTiles = kRowTilesOfWarp, kRows = 16 * kRowTiles;  // of a warp's product
  static constexpr int kTeams = kTokens / kRows, kWarps = kTeams * R, kThreads = 32 * kWarps;
  static constexpr int kScanWarps = (R < 4 ? 2 : 4) * kTeams, kRun = R < 4 ? 8 : 4;  // a run: a warp's tokens in a scan
  static constexpr int kScanTokens = kScanWarps * kRun;
  static constexpr int kColumns = 32 * R, kPitch = pitch_of<Low>(kColumns);

  // Where row f of the weights lies: eight neighbouring rows, and rows 0, 1, 8, 9, 16, 17, 24, 25, are in different banks.
  __host__ __device__ static constexpr int weight_row(int f) { return f * kPitch + f / 8 * 16; }

  // Parts of the block's shared memory, each a multiple of 16 bytes: weights, sources, currents, where the sources lie, and
  // what a kernel adds behind.
  static constexpr std::size_t shared_bytes(int fan_in, int slots) {
    return sizeof(Low) * static_cast<std::size_t>(weight_row(fan_in) + kSourceTiles * kTokens * pitch_of<Low>(fan_in)) +
           sizeof(float) * static_cast<std::size_t>(kTokens * kPitch) + sizeof(BlockRows<Low>) * static_cast<std::size_t>(slots);
  }

  const ColumnsArguments& a;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int group, column;                     // column: this lane's output
  const int source_pitch;
  Low *const weight, *const sources;
  float* const currents;
  BlockRows<const Low>* const slots;

  __device__ ColumnGroup(const ColumnsArguments& arguments, int g)
      : a(arguments), group(g), column(g * kLanes + lane), source_pitch(pitch_of<Low>(arguments.fan_in)),
        weight(reinterpret_cast<Low*>(shared_memory)), sources(weight + weight_row(arguments.fan_in)),
        currents(reinterpret_cast<float*>(sources + kSourceTiles * kTokens * source_pitch)),
        slots(reinterpret_cast<BlockRows<const Low>*>(currents + kTokens * kPitch)) {
    find_slots(a.sources, a.wiring + g * a.slots, a.slots, 1 << a.width_bits, slots);
    constexpr int kRow = kColumns / kVector<Low>;
    const Low* const from = a.weight + static_cast<std::int64_t>(g) * a.fan_in * kColumns;
    for (int v = thread; v < a.fan_in * kRow; v += kThreads)
      copy_behind(weight + weight_row(v / kRow) + v % kRow * kVector<Low>, from + v * kVector<Low>, true);
    __syncthreads();
  }

  __device__ Low* source_tile(int i) const { return sources + i * kTokens * source_pitch; }

  // Asks for the sources of a round; rows behind the window's end become zeros.
  __device__ void load_sources(int window, int begin, Low* to) const {
    // A lane copies the same sources of every second row of its warp's.
    const int thread = thread_again(), lane = thread % 32, warp = thread / 32;
    const int f = lane % 16 * kVector<Low>;
    if (f >= a.fan_in) return;
    const BlockRows<const Low> from = slots[f >> a.width_bits];
    const Low* const first = from.data + static_cast<std::int64_t>(window * a.window + begin) * from.stride + (f & ((1 << a.width_bits) - 1));
    const int rows = min(a.window - begin, kTokens), stride = static_cast<int>(from.stride);
#pragma unroll 1
    for (int row = 2 * warp + lane / 16; row < kTokens; row += 2 * kWarps)
      copy_behind(to + row * source_pitch + f, first + (row < rows ? row * stride : 0), row < rows);
  }
  // Asks for this group's outputs of a round, [kTokens, 32].
  template <typename From, typename T>
  __device__ void load_outputs(const Columns<From>& from, int window, int begin, T* to) const {
    constexpr int kRow = kLanes / kVector<T>;
    const int thread = thread_again();
    const From* const first = from.at(window * a.window + begin, group * kLanes + thread % kRow * kVector<T>);
    const int stride = static_cast<int>(from.stride), last = a.window - 1 - begin;
#pragma unroll 1
    for (int row = thread / kRow; row < kTokens; row += kThreads / kRow)
      copy_behind(to + row * kLanes + thread % kRow * kVector<T>, first + min(row, last) * stride, true);
  }
  // Asks for what opens this group's gates, in whole vectors: [kTokens, opener_vectors of 8].
  __device__ void load_openers(int window, int begin, Low* to) const {
    const int from = group * kLanes / a.stripe / kVector<Low>, last = (group * kLanes + kLanes - 1) / a.stripe / kVector<Low>;
#pragma unroll 1
    for (int v = thread; v < kTokens * a.opener_vectors; v += kThreads) {
      const int row = v / a.opener_vectors, vector = from + v - row * a.opener_vectors;
      const std::int64_t n = static_cast<std::int64_t>(window) * a.window + min(begin + row, a.window - 1);
      if (vector <= last) copy_behind(to + v * kVector<Low>, a.opener.at(n, vector * kVector<Low>), true);
    }
  }
  // This lane's opener in a token's vectors.
  __device__ int opener_of_lane() const { return column / a.stripe - group * kLanes / a.stripe / kVector<Low> * kVector<Low>; }

  // currents = sources weight + bias. The caller synchronises before and after.
  __device__ void multiply_sources(const Low* tile) const {
    const int thread = thread_again(), lane = thread % 32, team = thread / 32 / R, role = thread / 32 % R;
    const int near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
    const Low* const a_lane = tile + (team * kRows + near + second) * source_pitch + third;
    const Low* const b_lane = weight + weight_row(near + second) + role * 32 + third;
    Accumulators<kRowTiles, 4> acc;
    clear_accumulators<kRowTiles, 4>(acc);
#pragma unroll 2
    for (int k = 0; k < a.fan_in; k += 16) {
      std::uint32_t rows[kRowTiles][4], left[4], right[4];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) load_matrices<false>(rows[i], a_lane + 16 * i * source_pitch + k);
      load_matrices<true>(left, b_lane + weight_row(k));
      load_matrices<true>(right, b_lane + weight_row(k) + 16);
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        multiply_add<Low>(acc[i][0], rows[i], left[0], left[1]);
        multiply_add<Low>(acc[i][1], rows[i], left[2], left[3]);
        multiply_add<Low>(acc[i][2], rows[i], right[0], right[1]);
        multiply_add<Low>(acc[i][3], rows[i], right[2], right[3]);
      }
    }
    const float* const bias = a.bias + role * a.bias_stride + group * kLanes;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 shift = __ldg(reinterpret_cast<const float2*>(bias + column_of(j)));
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i)
#pragma unroll
        for (int e = 0; e < 4; e += 2)
          *reinterpret_cast<float2*>(currents + (team * kRows + row_of(i, e)) * kPitch + role * 32 + column_of(j)) = {
              acc[i][j][e] + shift.x, acc[i][j][e + 1] + shift.y};
    }
  }

  // Which of the 32 tokens from `begin` on start a document, as bits.
  __device__ unsigned starts(int window, int begin) const {
    const int t = min(begin + lane, a.window - 1);
    return __ballot_sync(0xFFFFFFFFu, __ldg(a.first + static_cast<std::int64_t>(window) * a.window + t) == t);
  }
};

inline int opener_vectors(const CorticalColumns& a) {
  std::int64_t most = 0;
  for (std::int64_t g = 0; a.gate.opener && g < a.weight[0]; ++g)
    most = std::max(most, (g * kGroup + kGroup - 1) / a.gate.stripe / kVector<Low> - g * kGroup / a.gate.stripe / kVector<Low> + 1);
  return static_cast<int>(most);
}

// Calls body(ColumnGroup{}, gated, shared bytes): the longest round that a block of this GPU has room for, with `per_token`
// bytes more for each of its tokens. kRowTiles and kSourceTiles are those of the long round.
template <int kRowTiles, int kSourceTiles, typename Body>
void dispatch_columns(CudaDevice& device, const CorticalColumns& a, std::size_t per_token, Body&& body) {
  const int fan_in = static_cast<int>(a.weight[1]), slots = static_cast<int>(a.wiring[1]);
  const std::size_t room = device.native().properties.sharedMemPerBlockOptin;
  per_token += sizeof(Low) * kVector<Low> * static_cast<std::size_t>(opener_vectors(a));
  dispatch_roles(static_cast<int>(a.weight[2] / kGroup), [&](auto roles) {
    const auto with = [&]<typename Group>(std::type_identity<Group> group, std::size_t shared) {
      if (a.gate.opener) body(group, std::true_type{}, shared);
      else body(group, std::false_type{}, shared);
    };
    using Long = ColumnGroup<roles.value, 2 * kCarryTokens, kRowTiles, kSourceTiles>;
    using Short = ColumnGroup<roles.value, kCarryTokens, 1, 1>;
    const std::size_t shared = Long::shared_bytes(fan_in, slots) + Long::kTokens * per_token;
    if (shared + (2 * Long::kScanWarps * sizeof(Map) + sizeof(float)) * kLanes <= room) with(std::type_identity<Long>{}, shared);
    else with(std::type_identity<Short>{}, Short::shared_bytes(fan_in, slots) + Short::kTokens * per_token);
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

// A block's view of its column group in the cortical columns' CUDA kernels: arguments, weights in shared memory, and the loading of
// sources for a round of 32 tokens.
#pragma once
#include <algorithm>

#include "kernels/base/cuda_tile.cuh"
#include "kernels/brain/cortical_columns.h"
#include "kernels/brain/microcircuit_cuda.cuh"
#include "kernels/brain/synapses_cuda.cuh"

namespace neurogen {

using Low = __nv_bfloat16;
static_assert(kColumnsMostFanIn == 16 * kVector<Low>);

inline constexpr int kRound = static_cast<int>(kCarry);  // tokens
inline constexpr int kWarpOutputs = kLanes / 2, kQuadTokens = kRound / 4;
inline constexpr int kPairThreads = 64;  // two warps, which share a group's round

// Offset of row `row` of a tile. A row is an odd number of 16 bytes long, and every eighth is shifted by 32 more bytes, so that
// rows 0 to 7 are in different banks, and so are rows 0, 1, 8, 9, 16, 17, 24, 25.
__host__ __device__ constexpr int tile_row(int row, int pitch) { return row * pitch + row / 8 * 16; }

// Bytes of a round's sources in shared memory, with or without those of the token before it (row kRound), and of its gates'
// openers.
__host__ __device__ constexpr std::size_t source_bytes(int fan_in, bool with_before) {
  return sizeof(Low) * static_cast<std::size_t>(tile_row(kRound + with_before, pitch_of<Low>(fan_in)));
}
__host__ __device__ constexpr std::size_t opener_bytes(int opener_vectors) {
  return sizeof(Low) * kVector<Low> * kRound * static_cast<std::size_t>(opener_vectors);
}

struct ColumnsArguments {
  SourceTable sources;
  const int* wiring;
  const Low* weight;
  const float* taps;
  std::int64_t taps_stride;
  const float* bias;
  std::int64_t bias_stride;
  const float* retain;
  const int* first;
  int fan_in, slots, width_bits, window, windows, carries;
  Columns<const Low> opener;
  const float* gate_bias;
  int stripe, opener_vectors;  // opener_vectors: 16-byte vectors that hold the openers of any group
  Columns<const Low> residual;
  float* carried;  // may be null
  std::int64_t carried_stride;
};

// A neuron's two taps and bias, read as one vector.
struct alignas(16) Neuron {
  float now, before, bias;
};

// A group's neurons, weights and source addresses in shared memory. Data of fixed size comes first, so its addresses need no
// register.
template <int R>
struct GroupMemory {
  static constexpr int kColumns = 32 * R, kPitch = pitch_of<Low>(kColumns);

  static constexpr std::size_t bytes(int fan_in, int slots) {
    return sizeof(Low) * static_cast<std::size_t>(tile_row(fan_in, kPitch)) + sizeof(Neuron) * kColumns +
           sizeof(float) * 3 * kLanes + sizeof(BlockRows<Low>) * static_cast<std::size_t>(slots);
  }

  const ColumnsArguments& a;
  const int group;
  Neuron* const neurons;                  // [R, 32]
  float *const retain, *const gate_bias;  // [32]
  int* const opener;                      // [32]: index of an output's opener in a token's vectors
  Low* const weight;                      // [fan-in, 32 R]
  BlockRows<const Low>* const slots;

  // Starts loading everything, as a stage of its own; the caller waits and synchronises the block. `before`: the caller's bytes
  // that come first.
  __device__ GroupMemory(const ColumnsArguments& arguments, int g, std::size_t before = 0)
      : a(arguments),
        group(g),
        neurons(reinterpret_cast<Neuron*>(shared_memory + before)),
        retain(reinterpret_cast<float*>(neurons + kColumns)),
        gate_bias(retain + kLanes),
        opener(reinterpret_cast<int*>(gate_bias + kLanes)),
        weight(reinterpret_cast<Low*>(opener + kLanes)),
        slots(reinterpret_cast<BlockRows<const Low>*>(weight + tile_row(arguments.fan_in, kPitch))) {
    constexpr int kRow = kColumns / kVector<Low>;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    find_slots(a.sources, a.wiring + g * a.slots, a.slots, 1 << a.width_bits, slots);
    const Low* const from = a.weight + static_cast<std::int64_t>(g) * a.fan_in * kColumns;
    for (int v = thread; v < a.fan_in * kRow; v += threads)
      copy_behind(weight + tile_row(v / kRow, kPitch) + v % kRow * kVector<Low>, from + v * kVector<Low>, true);
    close_stage();
    for (int c = thread; c < kColumns; c += threads) {
      const int role = c / kLanes, at = g * kLanes + c % kLanes;
      neurons[c] = {read(a.taps + role * a.taps_stride + at), read(a.taps + (R + role) * a.taps_stride + at),
                    read(a.bias + role * a.bias_stride + at)};
    }
    if (thread >= kLanes) return;
    const int column = g * kLanes + thread;
    retain[thread] = read(a.retain + column);
    if (!a.opener.data) return;
    gate_bias[thread] = read(a.gate_bias + column / a.stripe);
    opener[thread] = column / a.stripe - g * kLanes / a.stripe / kVector<Low> * kVector<Low>;
  }

  __device__ int source_pitch() const { return pitch_of<Low>(a.fan_in); }
  __device__ unsigned char* behind() const { return reinterpret_cast<unsigned char*>(slots + a.slots); }

  // Starts loading, as a warp, the openers of this group's gates in a round, in whole vectors: [32, opener_vectors of 8].
  __device__ void load_openers(int window, int begin, Low* to) const {
    const int from = group * kLanes / a.stripe / kVector<Low>, last = (group * kLanes + kLanes - 1) / a.stripe / kVector<Low>;
    for (int v = static_cast<int>(thread_again() % 32); v < kRound * a.opener_vectors; v += 32) {
      const int row = v / a.opener_vectors, vector = from + v - row * a.opener_vectors;
      const std::int64_t n = static_cast<std::int64_t>(window) * a.window + min(begin + row, a.window - 1);
      if (vector <= last) copy_behind(to + v * kVector<Low>, a.opener.at(n, vector * kVector<Low>), true);
    }
  }
};

// Loads a round's sources on `threads` threads, 8 sources of a token at a time.
template <int threads, bool with_before>
struct SourceLoader {
  static constexpr int kStep = threads / 16;  // tokens
  const Low* from = nullptr;                  // null: nothing to load
  int stride = 0;
  unsigned to;  // in shared memory

  template <int R>
  __device__ SourceLoader(const GroupMemory<R>& x, const Low* tile) {
    const int f = static_cast<int>(thread_again() % 16) * kVector<Low>;
    to = shared_address(tile) + 2 * static_cast<unsigned>(tile_row(first_row(), x.source_pitch()) + f);
    if (f >= x.a.fan_in) return;
    const BlockRows<const Low> rows = x.slots[f >> x.a.width_bits];
    from = rows.data + (f & ((1 << x.a.width_bits) - 1));
    stride = static_cast<int>(rows.stride);
  }
  static __device__ int first_row() { return static_cast<int>(thread_again() % threads / 16); }
  // Starts loading; tokens beyond the window's end become zeros. `tile`: bytes from the first tile.
  __device__ void load(const ColumnsArguments& a, int window, int begin, unsigned tile) const {
    if (!from) return;
    const int last = a.window - 1 - begin, row = first_row();
    const Low* const first = from + static_cast<std::int64_t>(window * a.window + begin) * stride;
#pragma unroll
    for (int r = 0; r < kRound; r += kStep)
      copy_behind(to + tile + 2 * static_cast<unsigned>(tile_row(r, pitch_of<Low>(a.fan_in))), first + min(row + r, last) * stride,
                  row + r <= last);
    if (with_before && row == 0)
      copy_behind(to + tile + 2 * static_cast<unsigned>(tile_row(kRound, pitch_of<Low>(a.fan_in))),
                  begin > 0 ? first - stride : first, begin > 0);
  }
};

inline int opener_vectors(const CorticalColumns& a) {
  std::int64_t most = 0;
  for (std::int64_t g = 0; a.gate.opener && g < a.weight[0]; ++g)
    most = std::max(most, (g * kGroup + kGroup - 1) / a.gate.stripe / kVector<Low> - g * kGroup / a.gate.stripe / kVector<Low> + 1);
  return static_cast<int>(most);
}

inline ColumnsArguments arguments_of(const CorticalColumns& a) {
  const std::int64_t slots = a.wiring[1], fan_in = a.weight[1], width = slots > 0 ? fan_in / slots : 0, tokens = a.first[0];
  require_sources(a.sources, DType::bf16);
  require_operands(a.weight.dtype == DType::bf16 && a.weight.contiguous() && a.wiring.contiguous(),
                   "cortical columns: weights must be bf16, and they and the wiring contiguous");
  require_operands((width == 32 || width == 16) && width * slots == fan_in && fan_in <= kColumnsMostFanIn,
                   "cortical columns: source blocks must be 32 or 16 wide, and a fan-in at most 128");
  require_operands(a.window > 0 && tokens % a.window == 0, "cortical columns: the tokens must be whole windows");
  require_operands(a.gate.first_output == 0 && (!a.residual || a.residual.dtype == DType::bf16) &&
                       (!a.gate.opener || a.gate.opener.dtype == DType::bf16),
                   "cortical columns: residual and opener must be bf16, of a whole module");
  require_operands(!a.gate.opener || (a.gate.opener.row_stride % kVector<Low> == 0 && a.gate.stripe > 0),
                   "cortical columns: the opener's rows must be whole vectors");
  require_f32("cortical columns: taps, bias, retain, gate's bias and states must be f32",
              {a.taps, a.bias, a.retain, a.gate.bias, a.carried});
  return {SourceTable(a.sources),
          a.wiring.as<const int>(),
          a.weight.as<const Low>(),
          a.taps.as<const float>(),
          a.taps.row_stride,
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

// The columns' backward pass through the taps, and the layout of its blocks.
#pragma once
#include "kernels/brain/cortical_columns_gradients_cuda.cuh"
#include "kernels/brain/cortical_columns_scan_cuda.cuh"

namespace neurogen {

// Layout of a block. Each step takes `rounds` rounds of a window, from the window's end: a pair of warps scans each round and
// stores its currents' gradients, while other warps load the inputs of the next step and multiply the gradients of the previous
// one. If memory holds only one round, they take turns.
template <int R, int rounds>
struct BackwardLayout {
  static constexpr bool kBeside = rounds > 1;
  static constexpr int kSourceTiles = kBeside ? 3 : 1, kGradientTiles = kBeside ? 2 : 1, kInputs = kGradientTiles;  // per round
  static constexpr int kFirsts = kGradientTiles + 1;  // of this step, the one before and the one behind
  static constexpr int kMultiplyWarps =
      kBeside ? 8 : 4;  // four: with fewer threads, each has enough registers for both kinds of work
  static constexpr int kScanThreads = kPairThreads * rounds, kMultiplyThreads = 32 * kMultiplyWarps,
                       kThreads = kScanThreads + kMultiplyThreads;
  // Data at fixed addresses, before the group.
  struct Fixed {
    unsigned char gradients[kGradientTiles][rounds][GradientTile<R>::kBytes];
    // The tokens of a step's rounds that begin a document, as bits. By neuron: the gradient of each round's first current, as the
    // sum before heard it; a window's gradients of the taps.
    unsigned starts[kGradientTiles][rounds];
    std::uint16_t firsts[kFirsts][rounds][32 * R];
    float2 taps[rounds][32 * R];
    // A scanning lane's part of a window's sums: for each side those of the gain and of roles 2 and up, then those of the first two
    // roles of both sides.
    Neighbours<4, float> sums[2 * rounds][3][32];
    Map maps[rounds][kLanes];  // the recurrence through a round
    float gains[kLanes];
    // Values that do not fit in a scanning thread's registers: f g of the token after a step; addresses of a pair's rows of sources
    // and of weights, of the sources before them, and of its gradients.
    float following[rounds][kLanes];
    struct {
      unsigned rows, columns, before, gradients;
    } places[kPairThreads];
  };
  static_assert(sizeof(Fixed) % 16 == 0);
  std::size_t source_tile, inputs;  // bytes of one

  __host__ __device__ BackwardLayout(int fan_in, int opener_vectors)
      : source_tile(source_bytes(fan_in, true)), inputs(RoundInputs::kBytes + opener_bytes(opener_vectors)) {}
  // After the group: sources, then inputs.
  __host__ __device__ std::size_t inputs_at() const { return rounds * kSourceTiles * source_tile; }
  // Then the sums of a step, each in the place of its current's gradient: one tile a round, or two if there is room.
  __host__ __device__ std::size_t sums_at() const { return inputs_at() + 2 * rounds * kInputs * inputs; }
  __host__ __device__ std::size_t bytes(int sums_tiles) const {
    return sizeof(Fixed) + sums_at() + static_cast<std::size_t>(sums_tiles) * rounds * GradientTile<R>::kBytes;
  }
};

// Turns a step's gradients of currents into those of sums and adds up those of the taps: eight neurons of a round a warp at a time.
template <int R, int kRounds>
struct TapsGradient {
  using Layout = BackwardLayout<R, kRounds>;
  const GroupMemory<R>& group;
  const ColumnsBackward& b;
  typename Layout::Fixed& fixed;
  unsigned gradients, sums_of_sources;  // in shared memory
  int part;

  // i: the step's number; begin: of its latest round, which may be the window's latest.
  __device__ void run(int i, int begin, bool latest) const {
    const unsigned lane = thread_again() % 32, quad = lane % 4;
    const int tiles = i % Layout::kGradientTiles, sums_tile = i & (b.sums_tiles - 1);
    const std::uint16_t* const firsts = fixed.firsts[i % Layout::kFirsts][0];
    const std::uint16_t* const firsts_behind = fixed.firsts[(i + Layout::kFirsts - 1) % Layout::kFirsts][kRounds - 1];
    const unsigned mine = GradientTile<R>::place(lane / 4, quad);
    const bool odd = lane / 4 % 2 != 0;
#pragma unroll 1
    for (unsigned unit = (thread_again() - Layout::kScanThreads) / 32; unit < 4 * R * kRounds; unit += Layout::kMultiplyWarps) {
      const unsigned round = unit % kRounds, eight = unit / kRounds, neuron = eight * 8 + lane / 4;
      if (begin < static_cast<int>(round) * kRound) continue;
      const unsigned place = round * GradientTile<R>::kBytes + eight * 8 * GradientTile<R>::kRow + mine;
      const unsigned at = gradients + static_cast<unsigned>(tiles) * kRounds * GradientTile<R>::kBytes + place;
      std::uint32_t d[4], sums[4], d_next[4], d_sums[4];
      GradientTile<R>::load(at, d);
      GradientTile<R>::load(sums_of_sources + static_cast<unsigned>(sums_tile) * kRounds * GradientTile<R>::kBytes + place, sums);
      const Neuron n = group.neurons[neuron];
      const unsigned starts = fixed.starts[tiles][round];
      const unsigned behind = round > 0 ? firsts[neuron] : firsts_behind[neuron];  // two rounds at most
      float2& d_taps = fixed.taps[round][neuron];
      const float2 sum = d_taps;
      unsigned next = to_previous_lane(d[0]);
      if (quad == 3) next = round == 0 && latest ? 0u : behind;
#pragma unroll
      for (int j = 0; j < 4; ++j) d_next[j] = __byte_perm(d[j], j < 3 ? d[j + 1] : next, 0x5432);  // of tokens 2 j + 1 and 2 j + 2
      if (starts >> 1) {  // a document begins inside the round
        const unsigned starts_next = starts >> quad * kQuadTokens >> 1;
#pragma unroll
        for (int k = 0; k < kQuadTokens; ++k)
          if (starts_next >> k & 1) d_next[k / 2] &= k % 2 == 0 ? 0xFFFF0000u : 0x0000FFFFu;
      }
      const std::uint32_t now = packed<Low>(n.now, n.now), before = packed<Low>(n.before, n.before);
#pragma unroll
      for (int j = 0; j < 4; ++j) d_sums[j] = multiply_add_pairs(now, d[j], multiply_pairs(before, d_next[j]));
      GradientTile<R>::store(at, d_sums);
      // Products of all eight neurons with each other: the own ones are those of row and column lane / 4.
      float early[4] = {}, late[4] = {};
      multiply_add<Low>(early, {d[0], d_next[0], d[1], d_next[1]}, sums[0], sums[1]);
      multiply_add<Low>(late, {d[2], d_next[2], d[3], d_next[3]}, sums[2], sums[3]);
      if (quad == lane / 8)
        d_taps = {sum.x + (odd ? early[1] + late[1] : early[0] + late[0]), sum.y + (odd ? early[3] + late[3] : early[2] + late[2])};
    }
    asm volatile("bar.sync 2, %0;" ::"n"(Layout::kMultiplyThreads) : "memory");
    if (begin >= kRound * kRounds) return;
    // The window's sums.
    for (unsigned c = thread_again() - Layout::kScanThreads; c < GroupMemory<R>::kColumns; c += Layout::kMultiplyThreads) {
      float2 sum{};
#pragma unroll
      for (int round = 0; round < kRounds; ++round) {
        float2& of_round = fixed.taps[round][c];
        sum = {sum.x + of_round.x, sum.y + of_round.y};
        of_round = {};
      }
      float* const total = b.d_taps + (part * 2 * R + static_cast<int>(c) / kLanes) * b.d_taps_stride + group.group * kLanes +
                           static_cast<int>(c) % kLanes;
      total[0] += sum.x, total[R * b.d_taps_stride] += sum.y;
    }
  }
};

}  // namespace neurogen

// The products of the columns' backward pass: gradients of weights and of each slot's sources, from a round's current gradients.
#pragma once
#include "kernels/brain/cortical_columns_cuda.cuh"

namespace neurogen {

// A round's current gradients as [32 R neurons, 32 tokens], 64 bytes per neuron. The 16 bytes of eight tokens are placed so that
// those of eight neighbouring neurons are in different banks.
template <int R>
struct GradientTile {
  static constexpr unsigned kRow = 2 * kRound, kBytes = kLanes * R * kRow;
  // Offset in bytes of eight tokens of a neuron.
  static __device__ unsigned place(unsigned neuron, unsigned eighth) { return neuron * kRow + (eighth ^ neuron / 2 % 4) * 16; }
  // Stores eight tokens of a neuron, rounded. `to`: in shared memory.
  static __device__ void store(unsigned to, const float (&d)[kQuadTokens]) {
    std::uint32_t pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) pairs[j] = packed<Low>(d[2 * j], d[2 * j + 1]);
    store(to, pairs);
  }
  static __device__ void store(unsigned to, const std::uint32_t (&pairs)[4]) {
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
  }
  static __device__ void load(unsigned from, std::uint32_t (&pairs)[4]) {
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                 : "r"(from)
                 : "memory");
  }
};

// One warp's part of the weights' gradient, of `warps` warps: a quarter of the neurons, and 16 sources in every kStep.
template <int R, int warps>
struct WeightGradient {
  static constexpr int kStep = 16 * warps / 4, kMostTiles = static_cast<int>(kColumnsMostFanIn) / kStep, kColumns = 32 * R;
  const ColumnsArguments& a;
  float* const d_weight;          // of the group
  unsigned rows, columns, pitch;  // in shared memory: of the first tile of sources, of the first of gradients
  Accumulators<kMostTiles, R> acc;

  __device__ WeightGradient(const GroupMemory<R>& x, const Low* sources, unsigned gradients, float* d_weights)
      : a(x.a), d_weight(d_weights), pitch(2 * static_cast<unsigned>(x.source_pitch())) {
    const unsigned lane = threadIdx.x % 32, near = lane % 8;
    rows =
        shared_address(sources) + 2 * (static_cast<unsigned>(tile_row(static_cast<int>(near + lane / 16 * 8), x.source_pitch())) +
                                       first_source() + lane / 8 % 2 * 8);
    columns = gradients + GradientTile<R>::place(first_neuron() + near, lane / 8);
    each([](const float2& from, float& p, float& q) { p = from.x, q = from.y; });
  }
  __device__ void store() {
    each([](float2& to, float p, float q) { to = {p, q}; });
  }
  static __device__ unsigned first_source() { return thread_again() / 128 % (warps / 4) * 16; }
  static __device__ unsigned first_neuron() { return thread_again() / 32 % 4 * 8 * R; }

  template <typename Body>
  __device__ void each(Body&& body) {
    const int first = static_cast<int>(first_source());
    float* const stored = d_weight + first_neuron();
#pragma unroll
    for (int i = 0; i < kMostTiles; ++i)
      if (first + kStep * i < a.fan_in)
#pragma unroll
        for (int j = 0; j < R; ++j)
#pragma unroll
          for (int e = 0; e < 4; e += 2)
            body(*reinterpret_cast<float2*>(stored + (first + kStep * i + row_of(0, e)) * kColumns + column_of(j)), acc[i][j][e],
                 acc[i][j][e + 1]);
  }
  // += sources^T d_currents^T over a round's tokens. Tiles are given in bytes from the first.
  __device__ void add(unsigned source_tile, unsigned gradient_tile) {
    std::uint32_t other[R][4];  // of all 32 tokens
#pragma unroll
    for (int j = 0; j < R; ++j)
      load_matrices<false>(other[j], columns + gradient_tile + 8 * GradientTile<R>::kRow * static_cast<unsigned>(j));
#pragma unroll
    for (int i = 0; i < kMostTiles; ++i)
      if (static_cast<int>(first_source()) + kStep * i < a.fan_in)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          std::uint32_t part[4];
          load_matrices<true>(
              part, rows + source_tile + 2 * kStep * static_cast<unsigned>(i) + static_cast<unsigned>(half) * (16 * pitch + 64));
#pragma unroll
          for (int j = 0; j < R; ++j) multiply_add<Low>(acc[i][j], part, other[j][2 * half], other[j][2 * half + 1]);
        }
  }
};

// d_selected of a round and 16 sources = d_currents weight^T. The weights' rows are ordered so that a thread's accumulators are
// neighbouring sources: element e of tile j is source 4 q + 2 j + e.
template <int R>
struct SourcesGradient {
  unsigned rows[2], columns;  // in shared memory: of the first tile of gradients, tokens 0-15 and 16-31; of the weights

  __device__ SourcesGradient(const GroupMemory<R>& x, unsigned gradients) {
    const unsigned lane = threadIdx.x % 32, near = lane % 8, second = lane / 8 % 2, third = lane / 16;
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) rows[i] = gradients + GradientTile<R>::place(near + third * 8, 2 * i + second);
    columns = shared_address(x.weight) +
              2 * (static_cast<unsigned>(tile_row(static_cast<int>(near / 2 * 4 + near % 2 + 2 * third), GroupMemory<R>::kPitch)) +
                   second * 8);
  }
  // `to`: at these 16 sources (whose first row of weights is `first`) and the round's first token.
  __device__ void run(unsigned gradient_tile, int first, int rows_left, int width, Low* to) const {
    Accumulators<2, 2> acc;
    clear_accumulators<2, 2>(acc);
    unsigned column = columns + 2 * static_cast<unsigned>(tile_row(first, GroupMemory<R>::kPitch)), at = gradient_tile;
#pragma unroll
    for (int k = 0; k < 32 * R; k += 16, column += 32, at += 16 * GradientTile<R>::kRow) {
      std::uint32_t part[2][4], other[4];
      load_matrices<false>(other, column);
#pragma unroll
      for (int i = 0; i < 2; ++i) load_matrices<true>(part[i], rows[i] + at);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiply_add<Low>(acc[i][0], part[i], other[0], other[1]);
        multiply_add<Low>(acc[i][1], part[i], other[2], other[3]);
      }
    }
    const unsigned lane = thread_again() % 32, token = lane / 4;
    to += token * static_cast<unsigned>(width) + lane % 4 * 4;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        if (static_cast<int>(token) + 16 * i + 4 * e < rows_left)
          store_four(to + (16 * i + 4 * e) * width, {acc[i][0][e], acc[i][0][e + 1], acc[i][1][e], acc[i][1][e + 1]});
  }
};

}  // namespace neurogen

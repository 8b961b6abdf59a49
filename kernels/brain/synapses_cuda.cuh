// Shared by the synapses' CUDA kernels: the concatenated sources, and checks of shapes and types.
#pragma once
#include "kernels/base/cuda_tile.cuh"
#include "kernels/brain/synapses.h"

namespace neurogen {

struct SourceTable {
  void* data[kMostSources] = {};
  std::int64_t stride[kMostSources] = {};
  int width[kMostSources] = {};

  explicit SourceTable(const Sources& sources) {
    for (int i = 0; i < sources.count; ++i) {
      const TensorView& view = sources.outputs[static_cast<std::size_t>(i)];
      data[i] = view.data;
      stride[i] = view.row_stride;
      width[i] = static_cast<int>(view[1]);
    }
  }
};

// Rows of one source block.
template <typename T>
struct BlockRows {
  T* data;
  std::int64_t stride;
};

template <typename T>
__device__ inline BlockRows<T> find_block(const SourceTable& sources, int column) {
  BlockRows<T> found{};
#pragma unroll
  for (int i = 0; i < static_cast<int>(kMostSources); ++i) {
    if (column >= 0 && column < sources.width[i]) found = {static_cast<T*>(sources.data[i]) + column, sources.stride[i]};
    column -= sources.width[i];
  }
  return found;
}

// Index of the tensor that holds a source.
__device__ inline int find_source(const SourceTable& sources, int column) {
  int found = 0, begin = 0;
#pragma unroll
  for (int i = 1; i < static_cast<int>(kMostSources); ++i) {
    begin += sources.width[i - 1];
    if (sources.width[i] > 0 && column >= begin) found = i;
  }
  return found;
}

// Finds the sources of each slot of a group, once per block. The caller synchronises.
template <typename T>
__device__ inline void find_slots(const SourceTable& sources, const int* wiring, int slots, int width, BlockRows<const T>* found) {
  for (int s = static_cast<int>(threadIdx.x); s < slots; s += static_cast<int>(blockDim.x))
    found[s] = find_block<const T>(sources, wiring[s] * width);
}

struct SynapsesShape {
  std::int64_t groups, tokens;
  int fan_in, slots, width, columns, roles;
  std::int64_t rows;  // per product

  // weight: weights or their gradient [G, F, 32R]; currents: currents or their gradient [G, N, 32R].
  SynapsesShape(const TensorView& weight, const TensorView& currents, std::int64_t slots_, std::int64_t rows_per_product)
      : groups(weight[0]),
        tokens(currents[1]),
        fan_in(static_cast<int>(weight[1])),
        slots(static_cast<int>(slots_)),
        width(slots > 0 ? fan_in / slots : 0),
        columns(static_cast<int>(weight[2])),
        roles(columns / static_cast<int>(kGroup)),
        rows(rows_per_product) {
    require_operands((width == 32 || width == 16) && width * slots == fan_in, "synapses: source blocks must be 32 or 16 wide");
    require_operands(columns % kGroup == 0 && roles >= 2 && roles <= 5, "synapses: an output must have 2 to 5 neurons");
    require_operands(currents[2] == columns && currents[0] == groups, "synapses: weights and currents differ in shape");
    require_operands(rows > 0, "synapses: rows_per_product must be positive");
  }
};

inline void require_sources(const Sources& sources, DType type) {
  for (int i = 0; i < sources.count; ++i) {
    const TensorView& view = sources.outputs[static_cast<std::size_t>(i)];
    require_operands(view.dtype == type, "synapses: the sources have the wrong type");
    require_operands(view[1] % kGroup == 0 && static_cast<Bytes>(view.row_stride) * size_of(type) % 16 == 0 &&
                         reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0,
                     "synapses: a source must begin at a multiple of 16 bytes and be whole groups wide");
  }
}

inline void require_taps(const Taps& taps, const SynapsesShape& x) {
  require_operands(taps.taps.dtype == DType::f32 && taps.taps[0] == 2 * x.roles && taps.taps[1] == kGroup * x.groups,
                   "synapses: there must be two f32 taps for every neuron");
  require_operands(taps.window > 0 && x.tokens % taps.window == 0 && x.rows % taps.window == 0,
                   "synapses: tokens and products must be whole windows");
}

// Operands of the forward pass.
struct ForwardOperands {
  SourceTable sources;
  const int* wiring;
  std::int64_t wiring_stride;
  const void* weight;  // [G, F, 32R]
  std::int64_t weight_stride;
  const float* taps;  // [2R, 32G]
  std::int64_t taps_stride;
  const float* bias;  // [R, 32G]
  std::int64_t bias_stride;

  ForwardOperands(const Sources& all, const TensorView& wiring_, const TensorView& weight_, const TensorView& taps_,
                  const TensorView& bias_)
      : sources(all),
        wiring(wiring_.as<const int>()),
        wiring_stride(wiring_.row_stride),
        weight(weight_.data),
        weight_stride(weight_.row_stride),
        taps(taps_.as<const float>()),
        taps_stride(taps_.row_stride),
        bias(bias_.as<const float>()),
        bias_stride(bias_.row_stride) {}
};

// Calls body(integral constant) for 2 to 5 roles.
template <typename Body>
void dispatch_roles(int roles, Body&& body) {
  if (roles == 2) body(std::integral_constant<int, 2>{});
  if (roles == 3) body(std::integral_constant<int, 3>{});
  if (roles == 4) body(std::integral_constant<int, 4>{});
  if (roles == 5) body(std::integral_constant<int, 5>{});
}

}  // namespace neurogen

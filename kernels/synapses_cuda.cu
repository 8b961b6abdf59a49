// currents[g] = gather(sources) weight[g] + bias: a block takes 128 tokens of one group with all of the group's columns, eight
// warps of 32 tokens and half the columns each.
#include "kernels/synapses_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kTokens = 128, kThreads = 256, kStages = 3;

struct ForwardArguments {
  SourceTable sources;
  const int* wiring;
  std::int64_t wiring_stride;
  const void* weight;  // [G, F, 32R]
  std::int64_t weight_stride;
  const float* bias;  // [R, 32G]
  std::int64_t bias_stride;
  float* currents;  // [G, N, 32R]
  std::int64_t currents_stride;
  int tokens, fan_in, slots, width;
};

template <typename T, int R>
struct ForwardStage {
  static constexpr int columns = 32 * R;
  static constexpr int source_pitch = pitch_of<T>(kChunk<T>), weight_pitch = pitch_of<T>(columns);
  T sources[kTokens * source_pitch];
  T weight[kChunk<T> * weight_pitch];
};

template <typename T, int R>
__global__ void __launch_bounds__(kThreads) forward_kernel(const ForwardArguments a) {
  using Stage = ForwardStage<T, R>;
  Stage* const stages = reinterpret_cast<Stage*>(shared_memory);
  auto* const slots = reinterpret_cast<BlockRows<const T>*>(stages + kStages);
  const int thread = static_cast<int>(threadIdx.x), token = static_cast<int>(blockIdx.x) * kTokens;
  const std::int64_t g = blockIdx.y;
  find_slots(a.sources, a.wiring + g * a.wiring_stride, a.slots, a.width, slots);
  __syncthreads();

  const T* const weight = static_cast<const T*>(a.weight) + g * a.weight_stride;
  const auto load = [&](int chunk, int s) {
    constexpr int kVectors = kChunk<T> / kVector<T>;
    const int part = thread % kVectors * kVector<T>, f = chunk * kChunk<T> + part;
    const bool inside = f < a.fan_in;
    const BlockRows<const T> from = slots[inside ? f / a.width : 0];
    const int column = inside ? f % a.width : 0;
    for (int row = thread / kVectors; row < kTokens; row += kThreads / kVectors) {
      const bool present = inside && token + row < a.tokens;
      copy_behind(stages[s].sources + row * Stage::source_pitch + part, from.data + (present ? token + row : 0) * from.stride + column,
                  present);
    }
    constexpr int kRow = Stage::columns / kVector<T>;
    for (int v = thread; v < kChunk<T> * kRow; v += kThreads) {
      const int row = v / kRow, at = v % kRow * kVector<T>;
      const bool present = chunk * kChunk<T> + row < a.fan_in;
      copy_behind(stages[s].weight + row * Stage::weight_pitch + at,
                  weight + (present ? chunk * kChunk<T> + row : 0) * Stage::columns + at, present);
    }
  };

  const int warp = thread / 32, row = warp / 2 * 32, column = warp % 2 * (Stage::columns / 2);
  Accumulators<2, 2 * R> acc;
  clear_accumulators<2, 2 * R>(acc);
  pipeline<kStages>((a.fan_in + kChunk<T> - 1) / kChunk<T>, load, [&](int, int s) {
    multiply<T, 2, 2 * R, kChunk<T>, Along::sum, Along::across>(acc, stages[s].sources + row * Stage::source_pitch, Stage::source_pitch,
                                                                stages[s].weight + column, Stage::weight_pitch);
  });

  float* const currents = a.currents + g * a.currents_stride;
#pragma unroll
  for (int j = 0; j < 2 * R; ++j) {
    const int c = column + column_of(j);
    const float* const bias = a.bias + c / 32 * a.bias_stride + g * 32 + c % 32;
    const float bias0 = bias[0], bias1 = bias[1];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t n = token + row + row_of(i, 2 * half);
        if (n < a.tokens)
          *reinterpret_cast<float2*>(currents + n * Stage::columns + c) = {acc[i][j][2 * half] + bias0, acc[i][j][2 * half + 1] + bias1};
      }
  }
}

// One block: a module has a few thousand readers, and they change only with the wiring.
__global__ void readers_kernel(const int* wiring, int readers, int blocks, int* start, int* list) {
  for (int b = static_cast<int>(threadIdx.x); b < blocks; b += static_cast<int>(blockDim.x)) {
    int count = 0;
    for (int i = 0; i < readers; ++i) count += wiring[i] == b;
    start[b + 1] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    start[0] = 0;
    for (int b = 0; b < blocks; ++b) start[b + 1] += start[b];
  }
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < blocks; b += static_cast<int>(blockDim.x)) {
    int at = start[b];
    for (int i = 0; i < readers; ++i)
      if (wiring[i] == b) list[at++] = i;
  }
}

}  // namespace

void synapses_forward(CudaDevice& device, const SynapsesForward& a) {
  const SynapsesShape x(a.weight, a.currents, a.wiring[1], a.rows_per_product);
  require_sources(a.sources, a.weight.dtype);
  require_operands(a.bias.dtype == DType::f32 && a.currents.dtype == DType::f32, "synapses_forward: bias and currents are f32");
  const ForwardArguments arguments{SourceTable(a.sources), a.wiring.as<const int>(), a.wiring.row_stride, a.weight.data,
                                   a.weight.row_stride, a.bias.as<const float>(), a.bias.row_stride, a.currents.as<float>(),
                                   a.currents.row_stride, static_cast<int>(x.tokens), x.fan_in, x.slots, x.width};
  dispatch_float(a.weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_roles(x.roles, [&](auto roles) {
      const std::size_t shared = kStages * sizeof(ForwardStage<T, roles.value>) + static_cast<std::size_t>(x.slots) * sizeof(BlockRows<T>);
      launch_with(device, "synapses_forward", forward_kernel<T, roles.value>,
                  dim3(pieces(x.tokens, kTokens), static_cast<unsigned>(x.groups)), dim3(kThreads), shared, arguments);
    });
  });
}

void synapses_readers(CudaDevice& device, const SynapsesReaders& a) {
  require_operands(a.wiring.contiguous(), "synapses_readers: the wiring is not contiguous");
  launch(device, "synapses_readers", readers_kernel, dim3(1), dim3(1024), 0, a.wiring.as<const int>(),
         static_cast<int>(a.wiring.elements()), static_cast<int>(a.reader_start[0] - 1), a.reader_start.as<int>(), a.readers.as<int>());
}

}  // namespace neurogen

// currents[g] = gather(sources) weight[g] + bias: a block takes 64 tokens at a time of one group with all of the group's
// columns, eight warps of 16 tokens and half the columns each. It goes on to further tokens without letting its copies pause.
#include <algorithm>

#include "kernels/synapses_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kTokens = 64, kThreads = 256, kStages = 4;
constexpr int kBlocks = 8;  // for each multiprocessor, of which two or three fit: enough to even out their loads

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
__global__ void __launch_bounds__(kThreads, 2) forward_kernel(const ForwardArguments a) {
  using Stage = ForwardStage<T, R>;
  Stage* const stages = reinterpret_cast<Stage*>(shared_memory);
  auto* const slots = reinterpret_cast<BlockRows<const T>*>(stages + kStages);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t g = blockIdx.y;
  find_slots(a.sources, a.wiring + g * a.wiring_stride, a.slots, a.width, slots);
  __syncthreads();

  // Chunks of the fan-in for one range of tokens after the other.
  const int chunks = (a.fan_in + kChunk<T> - 1) / kChunk<T>, step = static_cast<int>(gridDim.x) * kTokens;
  const int begin = static_cast<int>(blockIdx.x) * kTokens, width_bits = a.width == 32 ? 5 : 4;
  const T* const weight = static_cast<const T*>(a.weight) + g * a.weight_stride;
  int loaded_token = begin, loaded_chunk = 0;
  const auto load = [&](int s) {
    constexpr int kVectors = kChunk<T> / kVector<T>;
    const int first = loaded_chunk * kChunk<T>, part = thread % kVectors * kVector<T>, f = first + part;
    const bool inside = f < a.fan_in;
    const BlockRows<const T> from = slots[inside ? f >> width_bits : 0];
    const T* const column = from.data + (inside ? f & (a.width - 1) : 0);
#pragma unroll
    for (int i = 0; i < kTokens * kVectors / kThreads; ++i) {
      const int row = thread / kVectors + i * (kThreads / kVectors), n = loaded_token + row;
      const bool present = inside && n < a.tokens;
      copy_behind(stages[s].sources + row * Stage::source_pitch + part, column + (present ? n : 0) * from.stride, present);
    }
    constexpr int kRow = Stage::columns / kVector<T>;
    for (int v = thread; v < kChunk<T> * kRow; v += kThreads) {
      const int row = v / kRow, at = v % kRow * kVector<T>;
      const bool present = first + row < a.fan_in;
      copy_behind(stages[s].weight + row * Stage::weight_pitch + at, weight + (present ? first + row : 0) * Stage::columns + at, present);
    }
    if (++loaded_chunk == chunks) loaded_chunk = 0, loaded_token += step;
  };

  const int warp = thread / 32, row = warp / 2 * 16, column = warp % 2 * (Stage::columns / 2);
  const float* const bias = a.bias + g * 32;
  Accumulators<1, 2 * R> acc;
  clear_accumulators<1, 2 * R>(acc);
  int token = begin, chunk = 0;
  pipeline<kStages>((a.tokens - begin + step - 1) / step * chunks, load, [&](int s) {
    multiply<T, 1, 2 * R, kChunk<T>, Along::sum, Along::across>(acc, stages[s].sources + row * Stage::source_pitch, Stage::source_pitch,
                                                                stages[s].weight + column, Stage::weight_pitch);
    if (++chunk < chunks) return;
    float* const currents = a.currents + g * a.currents_stride + (token + row) * static_cast<std::int64_t>(Stage::columns);
#pragma unroll
    for (int j = 0; j < 2 * R; ++j) {
      const int c = column + column_of(j);
      const float2 shift = __ldg(reinterpret_cast<const float2*>(bias + (c / 32) * a.bias_stride + c % 32));
#pragma unroll
      for (int half = 0; half < 2; ++half)
        if (const int n = row_of(0, 2 * half); token + row + n < a.tokens)
          *reinterpret_cast<float2*>(currents + n * Stage::columns + c) = {acc[0][j][2 * half] + shift.x, acc[0][j][2 * half + 1] + shift.y};
    }
    clear_accumulators<1, 2 * R>(acc);
    chunk = 0, token += step;
  });
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
      const unsigned blocks = std::min(pieces(x.tokens, kTokens), pieces(kBlocks * device.multiprocessors(), std::max<std::int64_t>(x.groups, 1)));
      launch_with(device, "synapses_forward", forward_kernel<T, roles.value>, dim3(blocks, static_cast<unsigned>(x.groups)),
                  dim3(kThreads), shared, arguments);
    });
  });
}

void synapses_readers(CudaDevice& device, const SynapsesReaders& a) {
  require_operands(a.wiring.contiguous(), "synapses_readers: the wiring is not contiguous");
  launch(device, "synapses_readers", readers_kernel, dim3(1), dim3(1024), 0, a.wiring.as<const int>(),
         static_cast<int>(a.wiring.elements()), static_cast<int>(a.reader_start[0] - 1), a.reader_start.as<int>(), a.readers.as<int>());
}

}  // namespace neurogen

// The synapses' forward pass. A block keeps one group's weights in shared memory and takes 124 tokens at a time, without pausing
// the copies of their sources; each of its eight warps takes 31 of them, the token before them, and half the columns.
#include <algorithm>

#include "kernels/brain/synapses_row_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kWarpTokens = 31, kTokens = 4 * kWarpTokens, kRows = 128;  // rows of a tile; the first is of the token before it
constexpr int kThreads = 256, kStages = 3;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kBlocks = 1;  // shared memory has no room for a second, and reserving its registers would leave too few
#else
constexpr int kBlocks = 2;  // per multiprocessor
#endif

struct ForwardArguments : ForwardOperands {
  void* currents;  // [G, N, 32R]
  std::int64_t currents_stride;
  const int* first;
  int window, tokens, slots, width;
  int begin, rows;  // of the fan-in: all of it, or a slab that fits into shared memory. Later slabs add to the first
};

template <typename T>
struct ForwardStage {
  static constexpr int pitch = pitch_of<T>(kChunk<T>);
  T sources[kRows * pitch];
};

// Sixteen columns are arranged so that a thread's accumulators of two neighbouring tiles are four neighbouring columns: pair 2 q +
// t of columns is pair q of tile t.
template <typename T, int columns>
__device__ void load_weights(const T* from, int rows, int padded_rows, T* to) {
  struct alignas(2 * sizeof(T)) Pair {
    T at[2];
  };
  constexpr int kRow = columns / kVector<T>;
#pragma unroll 4
  for (int v = static_cast<int>(threadIdx.x); v < padded_rows * kRow; v += kThreads) {
    const int row = v / kRow, at = v % kRow * kVector<T>;
    const uint4 vector = row < rows ? __ldg(reinterpret_cast<const uint4*>(from + row * columns + at)) : uint4{};
#pragma unroll
    for (int i = 0; i < kVector<T> / 2; ++i) {
      const int pair = at % 16 / 2 + i;
      *reinterpret_cast<Pair*>(to + row * pitch_of<T>(columns) + at / 16 * 16 + pair % 2 * 8 + pair / 2 * 2) =
          reinterpret_cast<const Pair*>(&vector)[i];
    }
  }
}

template <typename T, typename Current, int R>
__global__ void __launch_bounds__(kThreads, kBlocks) forward_kernel(const ForwardArguments a) {
  using Stage = ForwardStage<T>;
  constexpr int columns = 32 * R, weight_pitch = pitch_of<T>(columns);
  const int chunks = (a.rows + kChunk<T> - 1) / kChunk<T>, step = static_cast<int>(gridDim.x) * kTokens;
  Stage* const stages = reinterpret_cast<Stage*>(shared_memory);
  T* const weight = reinterpret_cast<T*>(stages + kStages);
  auto* const slots = reinterpret_cast<BlockRows<const T>*>(weight + chunks * kChunk<T> * weight_pitch);
  const int thread = static_cast<int>(threadIdx.x), begin = static_cast<int>(blockIdx.x) * kTokens;
  const std::int64_t g = blockIdx.y;
  find_slots(a.sources, a.wiring + g * a.wiring_stride, a.slots, a.width, slots);
  load_weights<T, columns>(static_cast<const T*>(a.weight) + g * a.weight_stride + a.begin * columns, a.rows, chunks * kChunk<T>,
                           weight);
  __shared__ __align__(16) float neurons[3][columns];  // taps now and a token ago, biases
  for (int c = thread; c < 3 * columns; c += kThreads) {
    const int row = c / 32, which = row / R, at = static_cast<int>(g) * 32 + c % 32;
    neurons[which][c % columns] =
        which < 2 ? __ldg(a.taps + row * a.taps_stride + at) : __ldg(a.bias + (row - 2 * R) * a.bias_stride + at);
  }
  __syncthreads();

  // Takes chunks of the fan-in for one range of tokens after another.
  const int width_bits = a.width == 32 ? 5 : 4;
  int loaded_token = begin, loaded_chunk = 0;
  const auto load = [&](int s) {
    constexpr int kVectors = kChunk<T> / kVector<T>;
    const int part = thread % kVectors * kVector<T>, f = loaded_chunk * kChunk<T> + part;
    const bool inside = f < a.rows;
    const BlockRows<const T> from = slots[inside ? (a.begin + f) >> width_bits : 0];
    const T* const column = from.data + (inside ? (a.begin + f) & (a.width - 1) : 0);
#pragma unroll
    for (int i = 0; i < kRows * kVectors / kThreads; ++i) {
      const int row = thread / kVectors + i * (kThreads / kVectors), n = loaded_token + row - 1;
      const bool present = inside && row <= kTokens && n >= 0 && n < a.tokens;
      copy_behind(stages[s].sources + row * Stage::pitch + part, column + (present ? n : 0) * from.stride, present);
    }
    if (++loaded_chunk == chunks) loaded_chunk = 0, loaded_token += step;
  };

  const int warp = thread / 32, row = warp / 2 * kWarpTokens, column = warp % 2 * (columns / 2);
  Accumulators<2, 2 * R> acc;
  clear_accumulators<2, 2 * R>(acc);
  int token = begin, chunk = 0;
  pipeline<kStages>((a.tokens - begin + step - 1) / step * chunks, load, [&](int s) {
    multiply<T, 2, 2 * R, kChunk<T>, Along::sum, Along::across>(acc, stages[s].sources + row * Stage::pitch, Stage::pitch,
                                                                weight + chunk * kChunk<T> * weight_pitch + column, weight_pitch);
    if (++chunk < chunks) return;
    // This lane's rows are 8 b + lane / 4. Row 0 is only heard by the next.
    const int first_row = token + row + thread % 32 / 4 - 1;
    unsigned present = 0, starts = 0;
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const int n = first_row + 8 * b;
      if ((b == 0 && thread % 32 < 4) || n >= a.tokens) continue;
      present |= 1u << b;
      if (__ldg(a.first + n) == n % a.window) starts |= 1u << b;
    }
    Current* const currents =
        static_cast<Current*>(a.currents) + g * a.currents_stride + first_row * static_cast<std::int64_t>(columns);
#pragma unroll
    for (int j = 0; j < 2 * R; j += 2) {
      const int c = column + 8 * j + thread % 4 * 4;
      const auto four = [&](const float* from) { return *reinterpret_cast<const Neighbours<4, float>*>(from + c); };
      const auto now = four(neurons[0]), before = four(neurons[1]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const auto at = [&](int b) -> float& { return acc[b / 2][j + i / 2][b % 2 * 2 + i % 2]; };
        const auto above = [&](int b) { return __shfl_sync(0xFFFFFFFFu, at(b), thread % 32 + 28, 32); };
        float near = above(3);
#pragma unroll
        for (int b = 3; b >= 0; --b) {
          const float far = b > 0 ? above(b > 0 ? b - 1 : 0) : 0.0f, heard = thread % 32 < 4 ? far : near;
          at(b) = now.at[i] * at(b) + (starts >> b & 1 ? 0.0f : before.at[i] * heard);
          near = far;
        }
      }
      const float4 bias = load_four(neurons[2] + c);
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        if ((present >> b & 1) == 0) continue;
        Current* const stored = currents + 8 * b * columns + c;
        const float4 base = a.begin == 0 ? bias : load_four(stored);
        const float *const left = acc[b / 2][j] + b % 2 * 2, *const right = acc[b / 2][j + 1] + b % 2 * 2;
        store_four(stored, {left[0] + base.x, left[1] + base.y, right[0] + base.z, right[1] + base.w});
      }
    }
    clear_accumulators<2, 2 * R>(acc);
    chunk = 0, token += step;
  });
}

template <typename T, typename Current, int R>
__global__ void __launch_bounds__(kRowThreads, 2) row_kernel(const RowArguments a, Current* all_currents, std::int64_t stride) {
  __shared__ float currents[32 * R];
  row_currents<T, R>(a, blockIdx.x, currents);
  if (threadIdx.x < 32 * R) all_currents[blockIdx.x * stride + threadIdx.x] = from_float<Current>(currents[threadIdx.x]);
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
  require_taps(a.taps, x);
  require_operands(a.bias.dtype == DType::f32 && (!a.before || a.before.dtype == DType::f32),
                   "synapses_forward: biases and sums must be f32");
  require_operands(!a.before || x.tokens == 1, "synapses_forward: only a single token continues from the one before it");
  require_operands(a.currents.dtype == DType::f32 || a.currents.dtype == a.weight.dtype,
                   "synapses_forward: currents must be f32 or have the weights' type");
  const bool f32 = a.currents.dtype == DType::f32;
  if (x.tokens == 1) {
    dispatch_float(a.weight.dtype, [&](auto zero) {
      using T = decltype(zero);
      const RowArguments arguments({a.sources, a.wiring, a.weight, a.taps.taps, a.bias}, x, a.before);
      dispatch_roles(x.roles, [&](auto roles) {
        const auto run = [&](auto* currents) {
          launch(device, "synapses_forward", row_kernel<T, std::remove_pointer_t<decltype(currents)>, roles.value>,
                 dim3(static_cast<unsigned>(x.groups)), dim3(kRowThreads), 0, arguments, currents, a.currents.row_stride);
        };
        if (f32) run(a.currents.as<float>());
        else run(a.currents.as<T>());
      });
    });
    return;
  }
  ForwardArguments arguments{ForwardOperands(a.sources, a.wiring, a.weight, a.taps.taps, a.bias),
                             a.currents.data,
                             a.currents.row_stride,
                             a.taps.first.as<const int>(),
                             static_cast<int>(a.taps.window),
                             static_cast<int>(x.tokens),
                             x.slots,
                             x.width,
                             0,
                             0};
  // All blocks run at once: blocks that start later would leave most of the GPU idle at the end.
  const std::int64_t at_once = kBlocks * device.multiprocessors() / std::max<std::int64_t>(x.groups, 1);
  const unsigned blocks = std::min(pieces(x.tokens, kTokens), static_cast<unsigned>(std::max<std::int64_t>(at_once, 1)));
  dispatch_float(a.weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int around =
        static_cast<int>(kStages * sizeof(ForwardStage<T>) + static_cast<std::size_t>(x.slots) * sizeof(BlockRows<T>));
    const int neurons = 3 * static_cast<int>(sizeof(float)) * x.columns;
    const int chunk = kChunk<T> * pitch_of<T>(x.columns) * static_cast<int>(sizeof(T));
    const int room = (static_cast<int>(device.shared_memory()) - neurons - around) / chunk;
    for (arguments.begin = 0; arguments.begin < x.fan_in; arguments.begin += arguments.rows) {
      const int chunks = std::min(room, static_cast<int>(pieces(x.fan_in - arguments.begin, kChunk<T>)));
      arguments.rows = std::min(chunks * kChunk<T>, x.fan_in - arguments.begin);
      dispatch_roles(x.roles, [&](auto roles) {
        const auto kernel = f32 ? forward_kernel<T, float, roles.value> : forward_kernel<T, T, roles.value>;
        launch_with(device, "synapses_forward", kernel, dim3(blocks, static_cast<unsigned>(x.groups)), dim3(kThreads),
                    static_cast<std::size_t>(around + chunks * chunk), arguments);
      });
    }
  });
}

void synapses_readers(CudaDevice& device, const SynapsesReaders& a) {
  require_operands(a.wiring.contiguous(), "synapses_readers: the wiring must be contiguous");
  launch(device, "synapses_readers", readers_kernel, dim3(1), dim3(1024), 0, a.wiring.as<const int>(),
         static_cast<int>(a.wiring.elements()), static_cast<int>(a.reader_start[0] - 1), a.reader_start.as<int>(),
         a.readers.as<int>());
}

}  // namespace neurogen

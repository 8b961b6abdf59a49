// Gradients of the synapses: of their weights, summed over tokens, and of their sources, summed over readers.
#include "kernels/brain/synapses_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kStages = 4;
constexpr int kWeightStages = 3;  // wider stages: an old card has no room for more
constexpr int kWeightRows = 128;  // most rows of the fan-in that a block takes, 32 for each two warps
constexpr int kWarpTokens = 31, kSourceTokens = 4 * kWarpTokens, kSourceRows = 128;  // rows of a tile; one more than its tokens
constexpr int kThreads = 128;

struct WeightsArguments {
  SourceTable sources;
  const int* first;
  const int* wiring;
  std::int64_t wiring_stride;
  const void* d_currents;  // [G, N, 32R]
  std::int64_t d_currents_stride;
  float* d_weight;  // [parts 2G, F, 32R]
  std::int64_t d_weight_stride;
  float* d_bias;  // [parts R, 32G]
  std::int64_t d_bias_stride;
  int window, tokens, fan_in, slots, width, rows;
  int parts, first_product;  // first_product < parts
};

template <typename T, int R>
struct WeightsStage {
  static constexpr int columns = 32 * R;
  static constexpr int source_pitch = pitch_of<T>(kWeightRows), current_pitch = pitch_of<T>(columns);
  T sources[kChunk<T> * source_pitch];
  T currents[kChunk<T> * current_pitch];
};

// A block takes up to 128 rows of one group's d_weight as one tap has it, over one part's products. The second tap's sources are
// those of the tokens before. Two warps share 32 rows, each with half the columns, and there are no more warps than rows need. Sums
// start from the stored values, so that sections of a batch add up to the same bits as the whole.
template <typename T, int R>
__global__ void __launch_bounds__(2 * kWeightRows, 1) weights_kernel(const WeightsArguments a) {
  using Stage = WeightsStage<T, R>;
  constexpr int columns = Stage::columns;
  Stage* const stages = reinterpret_cast<Stage*>(shared_memory);
  auto* const slots = reinterpret_cast<BlockRows<const T>*>(stages + kWeightStages);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), warp = thread / 32;
  const int tap = static_cast<int>(blockIdx.z) % 2, begin = static_cast<int>(blockIdx.z) / 2 * kWeightRows,
            fan_in = min(a.fan_in - begin, kWeightRows);
  const int part = static_cast<int>(blockIdx.x), groups = static_cast<int>(gridDim.y), g = static_cast<int>(blockIdx.y);

  const int chunks = (a.rows + kChunk<T> - 1) / kChunk<T>;  // per product
  const int products = (a.tokens + a.rows - 1) / a.rows;
  const int first = (part + a.parts - a.first_product) % a.parts;  // this part's first product
  if (first >= products) return;
  find_slots(a.sources, a.wiring + g * a.wiring_stride, a.slots, a.width, slots);
  __syncthreads();

  // A thread copies the same columns of every chunk's sources.
  const int vectors = threads / 2 / kVector<T>, f = thread % vectors * kVector<T>, source_row = thread / vectors;
  const bool inside = f < fan_in;
  const BlockRows<const T> from = slots[inside ? (begin + f) / a.width : 0];
  const T* const source = from.data + (inside ? (begin + f) % a.width : 0);
  const T* const d_currents = static_cast<const T*>(a.d_currents) + g * a.d_currents_stride;
  constexpr int kRow = columns / kVector<T>;
  int product = first, token = first * a.rows, product_end = min(token + a.rows, a.tokens), loaded_chunk = 0;
  constexpr int kRows = 2 * kVector<T>;  // copied at once
  int firsts[kChunk<T> / kRows];         // of the next chunk to load
  const auto read_firsts = [&] {
#pragma unroll
    for (int i = 0; i < kChunk<T> / kRows; ++i) firsts[i] = __ldg(a.first + min(token + source_row + i * kRows, a.tokens - 1));
  };
  read_firsts();
  const auto load = [&](int s) {
#pragma unroll
    for (int i = 0; i < kChunk<T> / kRows; ++i) {
      const int row = source_row + i * kRows, n = token + row;
      const bool present = inside && n < product_end && (tap == 0 || firsts[i] < n % a.window);
      copy_behind(stages[s].sources + row * Stage::source_pitch + f, source + (present ? n - tap : 0) * from.stride, present);
    }
    const T* const chunk = d_currents + static_cast<std::int64_t>(token) * columns;
    for (int v = thread; v < kChunk<T> * kRow; v += threads) {
      const int row = v / kRow;
      const bool present = token + row < product_end;
      copy_behind(stages[s].currents + (v + row) * kVector<T>, present ? chunk + v * kVector<T> : d_currents, present);
    }
    token += kChunk<T>;
    if (++loaded_chunk == chunks)
      loaded_chunk = 0, product += a.parts, token = product * a.rows, product_end = min(token + a.rows, a.tokens);
    read_firsts();
  };

  const int row = warp / 2 * 32, half = warp % 2 * (columns / 2);
  float* const d_weight = a.d_weight + ((2 * part + tap) * groups + g) * a.d_weight_stride + begin * columns + half;
  Accumulators<2, 2 * R> sum;
  const auto each = [&](auto&& body) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int side = 0; side < 2; ++side)
#pragma unroll
        for (int j = 0; j < 2 * R; ++j) {
          const int at = row + row_of(i, 2 * side);
          float2* const stored = reinterpret_cast<float2*>(d_weight + at * columns + column_of(j));
          if (at < fan_in) body(*stored, sum[i][j][2 * side], sum[i][j][2 * side + 1]);
        }
  };
  clear_accumulators<2, 2 * R>(sum);
  each([](const float2& stored, float& x, float& y) { x = stored.x, y = stored.y; });

  // The bias: each thread sums some rows of a vector of columns, over one product. The threads' sums are then added up in the place
  // of a stage that has been used.
  __shared__ float bias[columns];
  float* const d_bias = a.d_bias + part * R * a.d_bias_stride + g * 32;
  const auto each_bias = [&](auto&& body) {
    for (int c = thread; c < columns; c += threads) body(c, d_bias[c / 32 * a.d_bias_stride + c % 32]);
  };
  each_bias([&](int c, float stored) { bias[c] = stored; });
  float bias_sum[kVector<T>] = {};
  const int shares = threads / kRow, share = thread / kRow, bias_column = thread % kRow * kVector<T>;
  const bool biased = blockIdx.z == 0 && share < shares;

  int chunk = 0;
  pipeline<kWeightStages>(chunks * ((products - first + a.parts - 1) / a.parts), load, [&](int s) {
    multiply<T, 2, 2 * R, kChunk<T>, Along::across, Along::across>(sum, stages[s].sources + row, Stage::source_pitch,
                                                                   stages[s].currents + half, Stage::current_pitch);
    if (biased)
      for (int r = share; r < kChunk<T>; r += shares) {
        const uint4 vector = *reinterpret_cast<const uint4*>(stages[s].currents + r * Stage::current_pitch + bias_column);
#pragma unroll
        for (int i = 0; i < kVector<T>; ++i) bias_sum[i] += to_float(reinterpret_cast<const T*>(&vector)[i]);
      }
    if (++chunk < chunks) return;
    chunk = 0;
    if (blockIdx.z > 0) return;
    __syncthreads();
    float* const sums = reinterpret_cast<float*>(stages + s);
    if (biased)
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) {
        sums[share * columns + bias_column + i] = bias_sum[i];
        bias_sum[i] = 0.0f;
      }
    __syncthreads();
    for (int c = thread; c < columns; c += threads) {
      float column = 0.0f;
      for (int i = 0; i < shares; ++i) column += sums[i * columns + c];
      bias[c] += column;
    }
  });
  each([](float2& stored, float x, float y) { stored = {x, y}; });
  if (blockIdx.z == 0) each_bias([&](int c, float& stored) { stored = bias[c]; });
}

// The weights as each tap has them.
template <typename T>
__global__ void tapped_kernel(const T* weight, const float* taps, std::int64_t taps_stride, int roles, int fan_in, T* tapped) {
  const int columns = 32 * roles;
  const std::int64_t g = blockIdx.x, matrix = static_cast<std::int64_t>(fan_in) * columns;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < matrix; i += 4 * static_cast<int>(blockDim.x)) {
    const int c = i % columns;
    const float4 w = load_four(weight + g * matrix + i);
#pragma unroll
    for (int tap = 0; tap < 2; ++tap) {
      const float4 t = load_four(taps + (tap * roles + c / 32) * taps_stride + g * 32 + c % 32);
      store_four(tapped + (tap * gridDim.x + g) * matrix + i, {t.x * w.x, t.y * w.y, t.z * w.z, t.w * w.w});
    }
  }
}

struct SourcesArguments {
  SourceTable d_sources;
  const int* first;
  const void* d_currents;  // [G, N, 32R]
  std::int64_t d_currents_stride;
  const void* weight;  // [2G, F, 32R]: as each tap has them
  std::int64_t weight_stride, tap_stride;
  const int *start, *readers;
  int window, tokens, columns, slots;
};

template <typename T, int width>
struct SourcesStage {
  static constexpr int pitch = pitch_of<T>(kChunk<T>);
  T currents[kSourceRows * pitch];
  T weight[2][width * pitch];
};

// A block takes 124 tokens of one source block's gradient, over its readers in order. Each warp takes 31 of them and the token
// after them. A token adds to its own sources' gradient, and to those of the token before it.
template <typename T, int width>
__global__ void __launch_bounds__(kThreads) sources_kernel(const SourcesArguments a) {
  using Stage = SourcesStage<T, width>;
  Stage* const stages = reinterpret_cast<Stage*>(shared_memory);
  const int thread = static_cast<int>(threadIdx.x), token = static_cast<int>(blockIdx.y) * kSourceTokens;
  const int start = a.start[blockIdx.x], count = a.start[blockIdx.x + 1] - start;
  if (count == 0) return;

  // Takes the chunks of one reader's columns after another. The next reader is loaded before it is needed.
  constexpr int kVectors = kChunk<T> / kVector<T>;
  const int part = thread % kVectors * kVector<T>, chunks = a.columns / kChunk<T>;
  const T *d_currents = nullptr, *weight = nullptr;
  int loaded_chunk = 0, reader = start, next = a.readers[start];
  const auto load = [&](int s) {
    if (loaded_chunk == 0) {
      const int g = next / a.slots, slot = next - g * a.slots;
      d_currents =
          static_cast<const T*>(a.d_currents) + g * a.d_currents_stride + static_cast<std::int64_t>(token) * a.columns + part;
      weight = static_cast<const T*>(a.weight) + g * a.weight_stride + slot * width * a.columns + part;
      if (++reader < start + count) next = a.readers[reader];
    }
#pragma unroll
    for (int i = 0; i < kSourceRows * kVectors / kThreads; ++i) {
      const int row = thread / kVectors + i * (kThreads / kVectors);
      const bool present = row <= kSourceTokens && token + row < a.tokens;
      copy_behind(stages[s].currents + row * Stage::pitch + part, d_currents + (present ? row : 0) * a.columns, present);
    }
    for (int row = thread / kVectors; row < 2 * width; row += kThreads / kVectors)
      copy_behind(stages[s].weight[0] + row * Stage::pitch + part, weight + row / width * a.tap_stride + row % width * a.columns,
                  true);
    d_currents += kChunk<T>;
    weight += kChunk<T>;
    if (++loaded_chunk == chunks) loaded_chunk = 0;
  };

  const int row = thread / 32 * kWarpTokens;
  using Gradient = GradientOf<T>;
  const BlockRows<Gradient> d_source = find_block<Gradient>(a.d_sources, static_cast<int>(blockIdx.x) * width);
  Accumulators<2, width / 8> acc, before;  // before: for the tokens before those of the rows
  const auto each = [&](auto&& body) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int n = token + row + row_of(i, 2 * side);
        Gradient* const at = d_source.data + n * d_source.stride;
#pragma unroll
        for (int j = 0; j < width / 8; ++j)
          if (n < a.tokens && row_of(i, 2 * side) < kWarpTokens)
            body(at + column_of(j), acc[i][j][2 * side], acc[i][j][2 * side + 1]);
      }
  };
  clear_accumulators<2, width / 8>(acc);
  clear_accumulators<2, width / 8>(before);
  each([](const Gradient* stored, float& x, float& y) {
    const auto pair = *reinterpret_cast<const Neighbours<2, Gradient>*>(stored);
    x = to_float(pair.at[0]), y = to_float(pair.at[1]);
  });
  pipeline<kStages>(count * chunks, load, [&](int s) {
    multiply<T, 2, width / 8, kChunk<T>, Along::sum, Along::sum>(acc, stages[s].currents + row * Stage::pitch, Stage::pitch,
                                                                 stages[s].weight[0], Stage::pitch);
    multiply<T, 2, width / 8, kChunk<T>, Along::sum, Along::sum>(before, stages[s].currents + row * Stage::pitch, Stage::pitch,
                                                                 stages[s].weight[1], Stage::pitch);
  });
  // Row r hears from row r + 1, of the next lanes or of the next eight rows.
#pragma unroll
  for (int b = 0; b < 4; ++b) {
    const int r = row_of(b / 2, b % 2 * 2), n = token + row + r + 1;
    const bool heard = r < kWarpTokens && n < a.tokens && __ldg(a.first + min(n, a.tokens - 1)) < n % a.window;
#pragma unroll
    for (int j = 0; j < width / 8; ++j)
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const auto from_below = [&](int block) {
          return __shfl_sync(0xFFFFFFFFu, before[block / 2][j][block % 2 * 2 + side], thread % 32 + 4, 32);
        };
        const float near = from_below(b), far = b < 3 ? from_below(b < 3 ? b + 1 : 3) : 0.0f;
        if (heard) acc[b / 2][j][b % 2 * 2 + side] += thread % 32 < 28 ? near : far;
      }
  }
  each([](Gradient* stored, float x, float y) { store_pair(stored, x, y); });
}

}  // namespace

void synapses_backward_weights(CudaDevice& device, const SynapsesBackwardWeights& a) {
  require_operands(a.parts > 0 && a.d_weight[0] == 2 * a.parts * a.d_currents[0] && a.first_product >= 0,
                   "synapses_backward_weights: the gradient must have `parts` whole parts");
  const SynapsesShape x(a.d_weight.rows(0, a.d_currents[0]), a.d_currents, a.wiring[1], a.rows_per_product);
  require_taps(a.taps, x);
  require_operands(a.d_bias[0] == a.parts * x.roles, "synapses_backward_weights: the bias must have as many parts as the weights");
  require_sources(a.sources, a.d_currents.dtype);
  require_operands(a.d_weight.dtype == DType::f32 && a.d_bias.dtype == DType::f32,
                   "synapses_backward_weights: gradients must be f32");
  const WeightsArguments arguments{SourceTable(a.sources),
                                   a.taps.first.as<const int>(),
                                   a.wiring.as<const int>(),
                                   a.wiring.row_stride,
                                   a.d_currents.data,
                                   a.d_currents.row_stride,
                                   a.d_weight.as<float>(),
                                   a.d_weight.row_stride,
                                   a.d_bias.as<float>(),
                                   a.d_bias.row_stride,
                                   static_cast<int>(a.taps.window),
                                   static_cast<int>(x.tokens),
                                   x.fan_in,
                                   x.slots,
                                   x.width,
                                   static_cast<int>(x.rows),
                                   static_cast<int>(a.parts),
                                   static_cast<int>(a.first_product % a.parts)};
  const dim3 grid(static_cast<unsigned>(a.parts), static_cast<unsigned>(x.groups), 2 * pieces(x.fan_in, kWeightRows));
  const dim3 block(64 * pieces(std::min(x.fan_in, kWeightRows), 32));
  dispatch_float(a.d_currents.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_roles(x.roles, [&](auto roles) {
      const std::size_t shared =
          kWeightStages * sizeof(WeightsStage<T, roles.value>) + static_cast<std::size_t>(x.slots) * sizeof(BlockRows<T>);
      launch_with(device, "synapses_backward_weights", weights_kernel<T, roles.value>, grid, block, shared, arguments);
    });
  });
}

void synapses_backward_sources(CudaDevice& device, const SynapsesBackwardSources& a) {
  const std::int64_t slots = a.weight[0] > 0 ? a.readers[0] / a.weight[0] : 0, blocks = a.reader_start[0] - 1;
  const SynapsesShape x(a.weight, a.d_currents, slots, a.rows_per_product);
  require_sources(a.d_sources, gradient_of(a.weight.dtype));
  require_operands(a.d_currents.dtype == a.weight.dtype, "synapses_backward_sources: weights and gradients differ in type");
  require_taps(a.taps, x);
  require_operands(a.weight.contiguous() && a.scratch.contiguous() && a.scratch.dtype == a.weight.dtype &&
                       a.scratch.elements() == 2 * a.weight.elements(),
                   "synapses_backward_sources: the scratch must be twice the weights");
  const SourcesArguments arguments{SourceTable(a.d_sources),
                                   a.taps.first.as<const int>(),
                                   a.d_currents.data,
                                   a.d_currents.row_stride,
                                   a.scratch.data,
                                   a.weight.row_stride,
                                   a.weight.elements(),
                                   a.reader_start.as<const int>(),
                                   a.readers.as<const int>(),
                                   static_cast<int>(a.taps.window),
                                   static_cast<int>(x.tokens),
                                   x.columns,
                                   x.slots};
  dispatch_float(a.weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(device, "synapses_backward_sources", tapped_kernel<T>, dim3(static_cast<unsigned>(x.groups)), dim3(1024), 0,
           a.weight.as<const T>(), a.taps.taps.as<const float>(), a.taps.taps.row_stride, x.roles, x.fan_in, a.scratch.as<T>());
    const dim3 grid(static_cast<unsigned>(blocks), pieces(x.tokens, kSourceTokens));
    const auto run = [&](auto kernel, std::size_t stage) {
      launch_with(device, "synapses_backward_sources", kernel, grid, dim3(kThreads), kStages * stage, arguments);
    };
    if (x.width == 32) run(sources_kernel<T, 32>, sizeof(SourcesStage<T, 32>));
    else run(sources_kernel<T, 16>, sizeof(SourcesStage<T, 16>));
  });
}

}  // namespace neurogen

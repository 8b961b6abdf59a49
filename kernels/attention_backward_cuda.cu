// The hippocampus' way back, in two passes over each head and window. The first takes tiles of queries: it makes the mixed
// values again and leaves the gradients of queries and openings, and for the second the mixed values' gradients and each
// query's log2 sum and softmax term. The second takes tiles of keys and gathers the gradients of keys and values from all
// queries that see them. The window's sums for the gain wait where the keys' gradients are written afterwards.
#include "kernels/attention_cuda.cuh"

namespace neurogen {
namespace {

template <typename Low>
struct Windows {
  const float* currents;  // [G, N, 32R]
  std::int64_t group_stride;
  int columns;
  const int* first;  // [N]
  int window, windows;
  const float* d_out;  // [N, 32G]
  std::int64_t d_out_stride;
  const float *inverse_rms, *dot, *gain;
  Low* d_currents;  // [G, N, 32R]
  std::int64_t d_group_stride;
  float* d_gain;
  Low* d_mixed;   // [N, 32G]
  float2* notes;  // [N, heads]: log2 sum, softmax term
  int heads;

  __device__ HeadCurrents<const float> currents_of(int head, int w) const {
    return {currents, group_stride, columns, head, static_cast<std::int64_t>(w) * window};
  }
  __device__ HeadCurrents<Low> d_currents_of(int head, int w) const {
    return {d_currents, d_group_stride, columns, head, static_cast<std::int64_t>(w) * window};
  }
};

constexpr int kSumsInRow = 16;                      // floats, in the keys' place of the second group of a head
constexpr int kSumRows = kDims / kSumsInRow;

template <typename Low>
__device__ float& gain_note(const HeadCurrents<Low>& d_currents, int first_row, int d) {
  return reinterpret_cast<float*>(d_currents.at(first_row + d / kSumsInRow, kKey, kDims / 2))[d % kSumsInRow];
}

// From d, the gradients of two turned queries or keys, to those of their currents.
template <typename Low>
__device__ void turned_backward(const HeadCurrents<const float>& currents, Role role, const int (&token)[2], int window,
                                const Turns& turns, const Mixed& d, const HeadCurrents<Low>& d_currents) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = min(token[half], window - 1);
    float2 x[kDims / 8], d_x[kDims / 8];
    float squares = 0.0f, dot = 0.0f;
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      x[j] = currents.pair(t, role, column_of(j));
      const float2 turn = cos_sin(turns[column_of(j) / 2], t);
      const float a = d[0][j][2 * half], b = d[0][j][2 * half + 1];
      d_x[j] = {a * turn.x + b * turn.y, b * turn.x - a * turn.y};
      squares += x[j].x * x[j].x + x[j].y * x[j].y;
      dot += x[j].x * d_x[j].x + x[j].y * d_x[j].y;
    }
    const float inverse = inverse_rms_of(row_sum(squares)), along = row_sum(dot) * inverse * inverse / kDims;
    if (token[half] < window)
#pragma unroll
      for (int j = 0; j < kDims / 8; ++j)
        store_pair(d_currents.at(t, role, column_of(j)), inverse * (d_x[j].x - x[j].x * along),
                   inverse * (d_x[j].y - x[j].y * along));
  }
}

// Probabilities' gradients to those of the products q k: weight (d_weight - term) / 8.
template <typename T>
__device__ void score_gradients(const QueryTile<T>& tile, int key, const Scores<T>& scores, const Scores<T>& d_weights,
                                const float (&log_sum)[2], const float (&term)[2], T* weights, T* d_scores) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int j = 0; j < kTile<T> / 8; ++j) {
      float weight[2], d_score[2];
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int e = 2 * half + side;
        weight[side] =
            tile.sees(half, key + column_of(j) + side) ? exp2_of(scores[0][j][e] * kExponent - log_sum[half]) : 0.0f;
        d_score[side] = weight[side] * (d_weights[0][j][e] - term[half]) * kScoreScale;
      }
      const int at = (tile.warp_row + row_of(0, 2 * half)) * kScorePitch<T> + column_of(j);
      if (weights) store_pair(weights + at, weight[0], weight[1]);
      store_pair(d_scores + at, d_score[0], d_score[1]);
    }
}

template <typename T>
struct QueriesMemory {
  HeadTile<T> q, k, v, d_mixed;
  ScoreTile<T> weights;
};

template <typename T>
__global__ void __launch_bounds__(kTileThreads<T>, kBackwardBlocks<T>) queries_kernel(const Windows<T> a) {
  __shared__ Turns turns;
  __shared__ float sums[kTileThreads<T> / 32][kDims];
  auto& memory = *reinterpret_cast<QueriesMemory<T>*>(shared_memory);
  const int head = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  make_turns(turns);
  __syncthreads();
  const TileLoad<T> load(turns);
  for (int w = static_cast<int>(blockIdx.x); w < a.windows; w += static_cast<int>(gridDim.x)) {
    const HeadCurrents<const float> currents = a.currents_of(head, w);
    const HeadCurrents<T> d_currents = a.d_currents_of(head, w);
    const std::int64_t window_token = static_cast<std::int64_t>(w) * a.window;
    const int* const first = a.first + window_token;
    float d_gain[kDims / 8][2] = {};
    const int first_row = static_cast<int>(blockIdx.z) * kTile<T>;
    for (int begin = first_row; begin < a.window; begin += static_cast<int>(gridDim.z) * kTile<T>) {
      __syncthreads();
      load.turned(memory.q, currents, kQuery, begin, a.window);
      const QueryTile<T> tile(first, begin, a.window);
      Mixed mixed;
      float log_sum[2], term[2];
      attend<T>(load, currents, first, a.window, tile, memory.q, memory.k, memory.v, memory.weights, mixed, log_sum);

      // Through the norm behind (rms_norm.h) and the opening.
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int t = tile.token[half];
        const bool present = t < a.window;
        const std::int64_t n = window_token + (present ? t : 0);
        const float inverse = __ldg(a.inverse_rms + n), dot = __ldg(a.dot + n);
        term[half] = 0.0f;
#pragma unroll
        for (int j = 0; j < kDims / 8; ++j) {
          const int d = column_of(j);
          const float2 open = currents.pair(present ? t : 0, kOpen, d);
          const float2 d_out = __ldg(reinterpret_cast<const float2*>(a.d_out + n * a.d_out_stride + head * kDims + d));
          const float2 gain = __ldg(reinterpret_cast<const float2*>(a.gain + head * kDims + d));
          float d_open[2], d_mixed[2];
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            const float s = sigmoid_of(side == 0 ? open.x : open.y), out = side == 0 ? d_out.x : d_out.y;
            const float value = present ? mixed[0][j][2 * half + side] : 0.0f, normed = value * s * inverse;
            const float d_y = inverse * ((side == 0 ? gain.x : gain.y) * out - normed * dot);
            d_gain[j][side] += out * normed;
            d_open[side] = d_y * value * s * (1.0f - s);
            d_mixed[side] = present ? d_y * s : 0.0f;
            term[half] += d_mixed[side] * value;
          }
          store_pair(memory.d_mixed + (tile.warp_row + row_of(0, 2 * half)) * kHeadPitch<T> + d, d_mixed[0], d_mixed[1]);
          if (present) {
            store_pair(d_currents.at(t, kOpen, d), d_open[0], d_open[1]);
            store_pair(a.d_mixed + (n * a.heads + head) * kDims + d, d_mixed[0], d_mixed[1]);
          }
        }
        term[half] = row_sum(term[half]);
        if (present && thread % 4 == 0) a.notes[n * a.heads + head] = {log_sum[half], term[half]};
      }

      Mixed d_q;
      clear_accumulators<1, kDims / 8>(d_q);
      for (int key = first[begin] / kTile<T> * kTile<T>; key <= begin; key += kTile<T>) {
        __syncthreads();
        load.turned(memory.k, currents, kKey, key, a.window);
        load.values(memory.v, currents, key, a.window);
        __syncthreads();
        Scores<T> scores, d_weights;
        multiply_scores<T>(scores, tile, memory.q, memory.k);
        multiply_scores<T>(d_weights, tile, memory.d_mixed, memory.v);
        score_gradients<T>(tile, key, scores, d_weights, log_sum, term, nullptr, memory.weights);
        __syncwarp();
        multiply<T, 1, kDims / 8, kTile<T>, Along::sum, Along::across>(d_q, memory.weights + tile.warp_row * kScorePitch<T>,
                                                                       kScorePitch<T>, memory.k, kHeadPitch<T>);
      }
      turned_backward(currents, kQuery, tile.token, a.window, turns, d_q, d_currents);
    }

#pragma unroll
    for (int j = 0; j < kDims / 8; ++j)
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        float sum = d_gain[j][side];
        for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
        if (thread % 32 < 4) sums[thread / 32][column_of(j) + side] = sum;
      }
    __syncthreads();
    for (int d = thread; d < kDims; d += kTileThreads<T>) {
      float sum = 0.0f;
      for (int warp = 0; warp < kTileThreads<T> / 32; ++warp) sum += sums[warp][d];
      if (gridDim.x * gridDim.z == 1) a.d_gain[head * kDims + d] += sum;
      else gain_note(d_currents, first_row, d) = sum;
    }
  }
}

// The windows' sums, each of its `parts`, in order, to the total.
template <typename Low>
__global__ void totals_kernel(const Windows<Low> a, int parts) {
  const int head = static_cast<int>(blockIdx.x), d = static_cast<int>(threadIdx.x);
  float total = a.d_gain[head * kDims + d];
  for (int w = 0; w < a.windows; ++w) {
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += gain_note(a.d_currents_of(head, w), part * kTile<Low>, d);
    total += sum;
  }
  a.d_gain[head * kDims + d] = total;
}

template <typename T>
struct KeysMemory {
  HeadTile<T> q, k, v, d_mixed;
  ScoreTile<T> weights, d_scores;
};

template <typename T>
__global__ void __launch_bounds__(kTileThreads<T>, kBackwardBlocks<T>) keys_kernel(const Windows<T> a) {
  __shared__ Turns turns;
  auto& memory = *reinterpret_cast<KeysMemory<T>*>(shared_memory);
  const int head = static_cast<int>(blockIdx.y), w = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const HeadCurrents<const float> currents = a.currents_of(head, w);
  const HeadCurrents<T> d_currents = a.d_currents_of(head, w);
  const std::int64_t token_of_window = static_cast<std::int64_t>(w) * a.window;
  const int* const first = a.first + token_of_window;
  const T* const d_mixed = a.d_mixed + (token_of_window * a.heads + head) * kDims;
  const float2* const notes = a.notes + token_of_window * a.heads + head;
  make_turns(turns);
  __syncthreads();
  const TileLoad<T> load(turns);
  const int key = static_cast<int>(blockIdx.z) * kTile<T>;
  load.turned(memory.k, currents, kKey, key, a.window);
  load.values(memory.v, currents, key, a.window);
  Mixed d_k, d_v;
  clear_accumulators<1, kDims / 8>(d_k);
  clear_accumulators<1, kDims / 8>(d_v);
  const int warp_key = thread / 32 * 16;
  for (int begin = key; begin < a.window && first[begin] < key + kTile<T>; begin += kTile<T>) {
    __syncthreads();
    load.turned(memory.q, currents, kQuery, begin, a.window);
    constexpr int kVectors = kDims / kVector<T>, kCopies = kTile<T> * kVectors / kTileThreads<T>;
    uint4 vectors[kCopies];
    const int d = thread % kVectors * kVector<T>;
#pragma unroll
    for (int i = 0; i < kCopies; ++i)
      vectors[i] = __ldg(reinterpret_cast<const uint4*>(
          d_mixed + min(begin + (thread + i * kTileThreads<T>) / kVectors, a.window - 1) * (a.heads * kDims) + d));
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int row = (thread + i * kTileThreads<T>) / kVectors;
      *reinterpret_cast<uint4*>(memory.d_mixed + row * kHeadPitch<T> + d) = begin + row < a.window ? vectors[i] : uint4{};
    }
    const QueryTile<T> tile(first, begin, a.window);
    float log_sum[2], term[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 note = __ldg(notes + min(tile.token[half], a.window - 1) * a.heads);
      log_sum[half] = note.x, term[half] = note.y;
    }
    __syncthreads();
    Scores<T> scores, d_weights;
    multiply_scores<T>(scores, tile, memory.q, memory.k);
    multiply_scores<T>(d_weights, tile, memory.d_mixed, memory.v);
    score_gradients<T>(tile, key, scores, d_weights, log_sum, term, memory.weights, memory.d_scores);
    __syncthreads();
    multiply<T, 1, kDims / 8, kTile<T>, Along::across, Along::across>(d_v, memory.weights + warp_key, kScorePitch<T>,
                                                                      memory.d_mixed, kHeadPitch<T>);
    multiply<T, 1, kDims / 8, kTile<T>, Along::across, Along::across>(d_k, memory.d_scores + warp_key, kScorePitch<T>,
                                                                      memory.q, kHeadPitch<T>);
  }
  const int token[2] = {key + warp_key + row_of(0, 0), key + warp_key + row_of(0, 2)};
  turned_backward(currents, kKey, token, a.window, turns, d_k, d_currents);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = token[half];
    if (t >= a.window) continue;
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      const int d = column_of(j);
      float x = d_v[0][j][2 * half], y = d_v[0][j][2 * half + 1];
      if (currents.has_strength()) {
        const float2 v = currents.pair(t, kValue, d), strength = currents.pair(t, kStrength, d);
        const float s = sigmoid_of(strength.x), r = sigmoid_of(strength.y);
        store_pair(d_currents.at(t, kStrength, d), x * v.x * 2.0f * s * (1.0f - s), y * v.y * 2.0f * r * (1.0f - r));
        x *= 2.0f * s;
        y *= 2.0f * r;
      }
      store_pair(d_currents.at(t, kValue, d), x, y);
    }
  }
}

}  // namespace

void attention_backward(CudaDevice& device, const AttentionBackward& a) {
  require_heads(a.currents, a.window);
  for (const TensorView& view : {a.d_out, a.inverse_rms, a.dot, a.gain, a.d_gain})
    require_operands(view.dtype == DType::f32, "attention_backward: all but the currents' gradient is f32");
  require_operands(a.d_mixed.contiguous() && a.d_mixed.dtype == a.d_currents.dtype && a.d_mixed.elements() == a.d_out.elements() &&
                       a.notes.contiguous() && a.notes.dtype == DType::f32 && a.notes.elements() == a.currents[0] * a.currents[1],
                   "attention_backward: what one pass leaves for the other has another shape");
  dispatch_float(a.d_currents.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Windows<T> windows{
        a.currents.as<const float>(), a.currents.row_stride,      static_cast<int>(a.currents[2]),
        a.first.as<const int>(),      static_cast<int>(a.window), static_cast<int>(a.currents[1] / a.window),
        a.d_out.as<const float>(),    a.d_out.row_stride,         a.inverse_rms.as<const float>(),
        a.dot.as<const float>(),      a.gain.as<const float>(),   a.d_currents.as<T>(),
        a.d_currents.row_stride,      a.d_gain.as<float>(),       a.d_mixed.as<T>(),
        a.notes.as<float2>(),         static_cast<int>(a.currents[0] / 2)};
    const auto heads = static_cast<unsigned>(a.currents[0] / 2), all = static_cast<unsigned>(windows.windows);
    // In too short a window, or too short a last tile, the sums find no place: one block takes all windows, or all tiles.
    const std::int64_t last = a.window % kTile<T>;
    const unsigned blocks = a.window >= kSumRows ? all : 1,
                   parts = last == 0 || last >= kSumRows ? pieces(a.window, kTile<T>) : 1;
    launch_with(device, "attention_backward", queries_kernel<T>, dim3(blocks, heads, parts), dim3(kTileThreads<T>),
                sizeof(QueriesMemory<T>), windows);
    if (blocks * parts > 1)
      launch(device, "attention_backward", totals_kernel<T>, dim3(heads), dim3(kDims), 0, windows, static_cast<int>(parts));
    launch_with(device, "attention_backward", keys_kernel<T>, dim3(all, heads, pieces(a.window, kTile<T>)), dim3(kTileThreads<T>), sizeof(KeysMemory<T>),
                windows);
  });
}

}  // namespace neurogen

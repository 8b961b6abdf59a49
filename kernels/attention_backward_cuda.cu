// The hippocampus' way back, in two passes over each head and window. The first takes tiles of queries: it makes the mixed
// values again and leaves the gradients of queries and openings, and for the second the mixed values' gradients and each
// query's log2 sum and softmax term. The second takes tiles of keys and gathers the gradients of keys and values from all
// queries that see them. The window's sums for the gain wait where the keys' gradients are written afterwards.
#include "kernels/attention_cuda.cuh"

namespace neurogen {
namespace {

template <typename T>
struct Windows {
  const T* currents;  // [G, N, 32R]
  std::int64_t group_stride;
  int columns;
  const int* first;  // [N]
  int window;
  const float* d_out;  // [N, 32G]
  std::int64_t d_out_stride;
  const float *inverse_rms, *dot, *gain;
  T* d_currents;  // [G, N, 32R]
  std::int64_t d_group_stride;
  T* d_mixed;     // [N, 32G]
  float2* notes;  // [heads, N]: log2 sum, softmax term
  float* sums;    // [windows, tiles, 32G]

  // Of this block: blockIdx is (head, window, tile).
  static __device__ int head() { return static_cast<int>(blockIdx.x); }
  __device__ std::int64_t token() const { return static_cast<std::int64_t>(blockIdx.y) * window; }
  __device__ HeadCurrents<const T> head_currents() const { return {currents, group_stride, columns, head(), token()}; }
  __device__ HeadCurrents<T> d_head_currents() const { return {d_currents, d_group_stride, columns, head(), token()}; }
  __device__ T* d_mixed_at(int t, int d) const { return d_mixed + (token() + t) * (gridDim.x * kDims) + head() * kDims + d; }
  __device__ float2* head_notes() const { return notes + head() * (static_cast<std::int64_t>(gridDim.y) * window) + token(); }
};

// A warp's accumulators laid out by rows, for whole vectors of outputs: in its part of the tiles, when these are done with.
template <typename T>
struct Strip {
  static constexpr int kPitch = kDims + 8, kRows = 32 / RowLane<T>::kLanes;
  using Room = float[16 * kPitch];
  float* room;
  int begin, window;  // of the warp's tokens

  __device__ Strip(HeadTile<T> (&tiles)[2], int begin_, int window_)
      : room(reinterpret_cast<Room*>(tiles)[threadIdx.x / 32]), begin(begin_), window(window_) {
    static_assert(sizeof(tiles) >= kTile<T> / 16 * sizeof(Room));
  }
  static __device__ int first_row() { return static_cast<int>(thread_again()) % 32 / RowLane<T>::kLanes; }
  __device__ void put(const Mixed& x, float scale) const {
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        *reinterpret_cast<float2*>(room + row_of(0, e) * kPitch + column_of(j)) = {scale * x[0][j][e], scale * x[0][j][e + 1]};
    __syncwarp();
  }
  // body(token, whether it lies in the window, output, values)
  template <typename Body>
  __device__ void each(Body&& body) const {
    const int d = RowLane<T>::output(), first = first_row();
#pragma unroll
    for (int step = 0; step < 16; step += kRows) {
      const int row = first + step;
      Outputs<T> x;
#pragma unroll
      for (int i = 0; i < kVector<T>; i += 4)
        *reinterpret_cast<float4*>(x.at + i) = *reinterpret_cast<const float4*>(room + row * kPitch + d + i);
      body(min(begin + row, window - 1), begin + row < window, d, x);
    }
  }
};

// From the gradients of turned queries or keys to those of their currents.
template <typename T>
__device__ void turned_backward(const Strip<T>& strip, const Turns& turns, const HeadCurrents<const T>& currents, Role role,
                                const HeadCurrents<T>& d_currents) {
  Angles<T> angles(turns, strip.begin + Strip<T>::first_row(), Strip<T>::kRows);
  strip.each([&](int t, bool present, int d, Outputs<T> d_x) {
    const Outputs<T> x = Outputs<T>::of(currents.vector(t, role, d));
    float squares = 0.0f, dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kVector<T>; i += 2) {
      const float2 turn = angles.turn[i / 2];
      const float a = d_x.at[i], b = d_x.at[i + 1];
      d_x.at[i] = a * turn.x + b * turn.y, d_x.at[i + 1] = b * turn.x - a * turn.y;
      squares += x.at[i] * x.at[i] + x.at[i + 1] * x.at[i + 1];
      dot += x.at[i] * d_x.at[i] + x.at[i + 1] * d_x.at[i + 1];
    }
    const float inverse = inverse_rms_of(RowLane<T>::sum(squares)), along = RowLane<T>::sum(dot) * inverse * inverse / kDims;
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) d_x.at[i] = inverse * (d_x.at[i] - x.at[i] * along);
    if (present) d_x.store(d_currents.at(t, role, d));
    angles.next();
  });
}

template <typename T>
__device__ void values_backward(const Strip<T>& strip, const HeadCurrents<const T>& currents, const HeadCurrents<T>& d_currents) {
  strip.each([&](int t, bool present, int d, Outputs<T> d_v) {
    if (!present) return;
    if (currents.has_strength()) {
      const Outputs<T> v = Outputs<T>::of(currents.vector(t, kValue, d));
      Outputs<T> s = Outputs<T>::of(currents.vector(t, kStrength, d));
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) {
        const float strength = sigmoid_of(s.at[i]);
        d_v.at[i] *= 2.0f * strength;
        s.at[i] = d_v.at[i] * v.at[i] * (1.0f - strength);
      }
      s.store(d_currents.at(t, kStrength, d));
    }
    d_v.store(d_currents.at(t, kValue, d));
  });
}

// A weight of the softmax, or 0 where the key is not seen, in place of its score; and in place of the weight's gradient
// eight times the score's: weight (d_weight - term).
__device__ inline void weigh(float& score, float& d_weight, bool seen, float log_sum, float term) {
  score = seen ? exp2_of(score * kExponent - log_sum) : 0.0f;
  d_weight = score * (d_weight - term);
}

template <typename T>
struct QueriesMemory {
  AttendMemory<T> attend;
  typename Left<T, kDims>::Room d_mixed[kTile<T> / 16];
};

template <typename T>
__global__ void __launch_bounds__(kTileThreads<T>, kTileBlocks<T>) queries_kernel(const Windows<T> a) {
  __shared__ Turns turns;
  __shared__ float sums[kTileThreads<T> / 32][kDims];
  auto& memory = *reinterpret_cast<QueriesMemory<T>*>(shared_memory);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int begin = static_cast<int>(gridDim.z - 1 - blockIdx.z) * kTile<T>;  // those with most to see come first
  make_turns(turns);
  __syncthreads();
  const int* const first = a.first + a.token();
  const Queries queries(first, begin + warp * 16, a.window);
  const int oldest = first[begin] / kTile<T> * kTile<T>;
  Left<T, kDims, false> q(memory.attend.queries_of(warp));  // registers are for more
  Left<T, kDims> d_mixed(memory.d_mixed[warp]);
  TileLoad<T, kTileThreads<T>, kTile<T>>::turned(memory.attend.queries, turns, a.head_currents(), kQuery, begin, a.window);
  Mixed mixed;
  float log_sum[2], term[2];
  attend(memory.attend, turns, a.head_currents(), oldest, begin, a.window, queries, q, mixed, log_sum);

  // Through the norm behind (rms_norm.h) and the opening.
  const HeadCurrents<const T> currents = a.head_currents();
  const HeadCurrents<T> d_currents = a.d_head_currents();
  float inverse[2], dot[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t n = a.token() + min(queries.token[half], a.window - 1);
    inverse[half] = __ldg(a.inverse_rms + n), dot[half] = __ldg(a.dot + n);
    log_sum[half] = __log2f(log_sum[half]), term[half] = 0.0f;
  }
#pragma unroll
  for (int j = 0; j < kDims / 8; ++j) {
    const int d = column_of(j);
    const float2 gain = load_pair(a.gain + Windows<T>::head() * kDims + d);
    float d_gain[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool present = queries.token[half] < a.window;
      const int t = min(queries.token[half], a.window - 1);
      const float2 open = currents.pair(t, kOpen, d);
      const float2 d_out = load_pair(a.d_out + (a.token() + t) * a.d_out_stride + Windows<T>::head() * kDims + d);
      float d_open[2];
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        float& value = mixed[0][j][2 * half + side];
        if (!present) value = 0.0f;
        const float s = sigmoid_of(side == 0 ? open.x : open.y), out = side == 0 ? d_out.x : d_out.y;
        const float normed = value * s * inverse[half];
        const float d_y = inverse[half] * ((side == 0 ? gain.x : gain.y) * out - normed * dot[half]);
        const float d_value = present ? d_y * s : 0.0f;
        d_gain[side] += out * normed;
        d_open[side] = d_y * value * s * (1.0f - s);
        term[half] += d_value * value;
        value = d_value;
      }
      if (present) {
        store_pair(d_currents.at(t, kOpen, d), d_open[0], d_open[1]);
        store_pair(a.d_mixed_at(t, d), mixed[0][j][2 * half], mixed[0][j][2 * half + 1]);
      }
    }
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      for (int lanes = 4; lanes < 32; lanes *= 2) d_gain[side] += __shfl_xor_sync(0xFFFFFFFFu, d_gain[side], lanes);
      if (thread % 32 < 4) sums[warp][d + side] = d_gain[side];
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    term[half] = row_sum(term[half]);
    if (queries.token[half] < a.window && thread % 4 == 0) a.head_notes()[queries.token[half]] = {log_sum[half], term[half]};
  }
  d_mixed.round(mixed);

  Mixed d_q;
  clear_accumulators<1, kDims / 8>(d_q);
  Left<T, kStep> d_scores(memory.attend.weights[warp]);
  for (int key = begin; key >= oldest; key -= kTile<T>) {
    if (key < begin) load_keys(memory.attend, turns, a.head_currents(), key, a.window);
    queries.template steps<kTile<T>, kStep>(key, [&](int row, bool whole) {
      const T *const k = memory.attend.keys() + row * kHeadPitch<T>, *const v = memory.attend.values() + row * kHeadPitch<T>;
      Scores<kStep> scores, d_weights;
      clear_accumulators<1, kStep / 8>(scores);
      clear_accumulators<1, kStep / 8>(d_weights);
      q.template multiply<Along::sum>(scores, k, kHeadPitch<T>);
      d_mixed.template multiply<Along::sum>(d_weights, v, kHeadPitch<T>);
#pragma unroll
      for (int j = 0; j < kStep / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          weigh(scores[0][j][e], d_weights[0][j][e], whole || queries.sees(e / 2, key + row + column_of(j) + e % 2),
                log_sum[e / 2], term[e / 2]);
      d_scores.round(d_weights);
      d_scores.template multiply<Along::across>(d_q, k, kHeadPitch<T>);
    });
  }
  __syncthreads();
  const Strip<T> strip(memory.attend.tiles, queries.begin, a.window);
  strip.put(d_q, kScoreScale);
  turned_backward(strip, turns, a.head_currents(), kQuery, a.d_head_currents());
  for (int d = thread; d < kDims; d += kTileThreads<T>) {
    float sum = 0.0f;
    for (int i = 0; i < kTileThreads<T> / 32; ++i) sum += sums[i][d];
    a.sums[(static_cast<std::int64_t>(blockIdx.y) * gridDim.z + begin / kTile<T>) * (gridDim.x * kDims) + Windows<T>::head() * kDims + d] = sum;
  }
}

// The windows' sums, tile by tile, in order, to the total.
__global__ void totals_kernel(const float* sums, int count, float* d_gain) {
  const int d = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  float total = d_gain[d];
  for (int i = 0; i < count; ++i) total += sums[static_cast<std::int64_t>(i) * (gridDim.x * blockDim.x) + d];
  d_gain[d] = total;
}

// Of the pass over keys: a block's keys, which its warps have as left sides; a tile of queries is what they meet.
template <typename T>
inline constexpr int kKeys = kHeld<T> ? 64 : 32;
template <typename T>
inline constexpr int kKeyThreads = 2 * kKeys<T>;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <typename T>
inline constexpr int kKeyBlocks = kHeld<T> ? 3 : 1;
#else
template <typename T>
inline constexpr int kKeyBlocks = 1;
#endif

template <typename T>
struct KeysMemory {
  HeadTile<T> tiles[2];  // queries, d_mixed
  float2 notes[kTile<T>];
  int oldest[kTile<T>];
  T own[kHeld<T> ? kVector<T> : 2 * kKeys<T> * kHeadPitch<T>];  // keys and values, where registers do not hold them
  typename Left<T, kStep>::Room weights[kKeys<T> / 16];
};

template <typename T>
__global__ void __launch_bounds__(kKeyThreads<T>, kKeyBlocks<T>) keys_kernel(const Windows<T> a) {
  __shared__ Turns turns;
  auto& memory = *reinterpret_cast<KeysMemory<T>*>(shared_memory);
  T *const queries = memory.tiles[0], *const d_mixed_tile = memory.tiles[1];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int block_key = static_cast<int>(blockIdx.z) * kKeys<T>, key = block_key + warp * 16;
  const HeadCurrents<const T> currents = a.head_currents();
  const auto first = [&](int t) { return __ldg(a.first + a.token() + t); };
  make_turns(turns);
  __syncthreads();
  T *const keys = kHeld<T> ? memory.tiles[0] : memory.own, *const values = kHeld<T> ? memory.tiles[1] : keys + kKeys<T> * kHeadPitch<T>;
  using Load = TileLoad<T, kKeyThreads<T>, kKeys<T>>;
  Load::turned(keys, turns, currents, kKey, block_key, a.window);
  Load::values(values, currents, block_key, a.window);
  __syncthreads();
  Left<T, kDims> k(keys + warp * 16 * kHeadPitch<T>), v(values + warp * 16 * kHeadPitch<T>);
  k.read();
  v.read();
  Mixed d_k, d_v;
  clear_accumulators<1, kDims / 8>(d_k);
  clear_accumulators<1, kDims / 8>(d_v);
  Left<T, kStep> weights(memory.weights[warp]);
  for (int begin = block_key / kTile<T> * kTile<T>; begin < a.window && first(begin) < block_key + kKeys<T>; begin += kTile<T>) {
    __syncthreads();
    constexpr int kVectors = RowLane<T>::kLanes;
#pragma unroll 2
    for (int i = thread; i < kTile<T> * kVectors; i += kKeyThreads<T>) {
      const int row = i / kVectors, d = i % kVectors * kVector<T>;
      copy_behind(d_mixed_tile + row * kHeadPitch<T> + d, a.d_mixed_at(min(begin + row, a.window - 1), d),
                  begin + row < a.window);
    }
    close_stage();
    for (int row = thread; row < kTile<T>; row += kKeyThreads<T>) {
      const int t = min(begin + row, a.window - 1);
      memory.notes[row] = __ldg(a.head_notes() + t), memory.oldest[row] = first(t);
    }
    TileLoad<T, kKeyThreads<T>, kTile<T>>::turned(queries, turns, currents, kQuery, begin, a.window);
    await_stages<0>();
    __syncthreads();
#pragma unroll 1
    for (int row = 0; row < kTile<T>; row += kStep) {
      const int query = begin + row;
      if (query + kStep <= key || query >= a.window || memory.oldest[row] > key + 15) continue;  // none sees any
      const bool whole = query >= key + 15 && memory.oldest[row + kStep - 1] <= key;
      const T *const q = queries + row * kHeadPitch<T>, *const d_out = d_mixed_tile + row * kHeadPitch<T>;
      Scores<kStep> scores, d_weights;
      clear_accumulators<1, kStep / 8>(scores);
      clear_accumulators<1, kStep / 8>(d_weights);
      k.template multiply<Along::sum>(scores, q, kHeadPitch<T>);
      v.template multiply<Along::sum>(d_weights, d_out, kHeadPitch<T>);
#pragma unroll
      for (int j = 0; j < kStep / 8; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          const int column = column_of(j) + side;
          const float2 note = memory.notes[row + column];
          const int oldest = whole ? 0 : memory.oldest[row + column];
#pragma unroll
          for (int e = side; e < 4; e += 2) {
            const int mine = key + row_of(0, e);
            weigh(scores[0][j][e], d_weights[0][j][e], whole || (mine <= query + column && mine >= oldest), note.x, note.y);
          }
        }
      weights.round(scores);
      weights.template multiply<Along::across>(d_v, d_out, kHeadPitch<T>);
      weights.round(d_weights);
      weights.template multiply<Along::across>(d_k, q, kHeadPitch<T>);
    }
  }
  __syncthreads();
  const Strip<T> strip(memory.tiles, key, a.window);
  strip.put(d_k, kScoreScale);
  turned_backward(strip, turns, currents, kKey, a.d_head_currents());
  strip.put(d_v, 1.0f);
  values_backward(strip, currents, a.d_head_currents());
}

}  // namespace

void attention_backward(CudaDevice& device, const AttentionBackward& a) {
  require_heads(a.currents, a.window);
  require_products(device, a.currents.dtype);
  require_operands(a.currents.dtype == a.d_currents.dtype, "attention_backward: currents and their gradient differ in type");
  for (const TensorView& view : {a.d_out, a.inverse_rms, a.dot, a.gain, a.d_gain})
    require_operands(view.dtype == DType::f32, "attention_backward: all but currents and their gradient is f32");
  require_operands(a.d_mixed.contiguous() && a.d_mixed.dtype == a.d_currents.dtype && a.d_mixed.elements() == a.d_out.elements() &&
                       a.notes.contiguous() && a.notes.dtype == DType::f32 && a.notes.elements() == a.currents[0] * a.currents[1],
                   "attention_backward: what one pass leaves for the other has another shape");
  dispatch_float(a.d_currents.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Windows<T> windows{
        a.currents.as<const T>(),   a.currents.row_stride,      static_cast<int>(a.currents[2]),
        a.first.as<const int>(),    static_cast<int>(a.window), a.d_out.as<const float>(),
        a.d_out.row_stride,         a.inverse_rms.as<const float>(), a.dot.as<const float>(),
        a.gain.as<const float>(),   a.d_currents.as<T>(),       a.d_currents.row_stride,
        a.d_mixed.as<T>(),          a.notes.as<float2>(),       a.sums.as<float>()};
    const auto heads = static_cast<unsigned>(a.currents[0] / 2), count = static_cast<unsigned>(a.currents[1] / a.window),
               tiles = pieces(a.window, kTile<T>);
    require_operands(a.sums.contiguous() && a.sums.dtype == DType::f32 && a.sums.elements() == count * tiles * heads * kHead,
                     "attention_backward: the sums have another shape");
    launch_with(device, "attention_backward", queries_kernel<T>, dim3(heads, count, tiles), dim3(kTileThreads<T>),
                sizeof(QueriesMemory<T>), windows);
    launch(device, "attention_backward", totals_kernel, dim3(heads), dim3(kDims), 0, windows.sums, static_cast<int>(count * tiles),
           a.d_gain.as<float>());
    launch_with(device, "attention_backward", keys_kernel<T>, dim3(heads, count, pieces(a.window, kKeys<T>)),
                dim3(kKeyThreads<T>), sizeof(KeysMemory<T>), windows);
  });
}

}  // namespace neurogen

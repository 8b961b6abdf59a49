// The hippocampus' backward pass, in two passes over each head and window. The first takes tiles of queries: it recomputes the
// mixed values, writes the gradients of queries and openings, and leaves for the second pass the rotated queries, the mixed values'
// gradients and each query's log2 sum and softmax term. The second takes keys and gathers the gradients of keys and values from all
// queries that see them.
#include "kernels/brain/attention_backward_cuda.cuh"

namespace neurogen {
namespace {

// Through the following norm (rms_norm.h) and the opening: replaces `rows`, the warp's mixed values, by their gradients, and gives
// each note its softmax term. d_gain: the sums over these rows.
template <typename T>
__device__ void open_backward(const Windows<T>& a, T* rows, float2* notes, int begin, float* d_gain) {
  const HeadCurrents<const T> currents = a.head_currents();
  const HeadCurrents<T> d_currents = a.d_head_currents();
  const int d_of_lane = RowLane<T>::output(), lane = static_cast<int>(threadIdx.x) % 32;
  const Outputs<T> gain = floats_at<T>(a.gain + a.head() * kDims + d_of_lane);
  Outputs<T> gain_sum{};
  constexpr int kOutVectors = sizeof(GradientOf<T>) / sizeof(T);
  struct Read {
    uint4 open, d_out[kOutVectors];
    float inverse, dot;
  };
  const auto ahead = [&](int t, int d) {
    const std::int64_t n = a.token() + t;
    const GradientOf<T>* const d_out = a.d_out + n * a.d_out_stride + a.head() * kDims + d;
    Read read{currents.vector(t, kOpen, d), {}, __ldg(a.inverse_rms + n), __ldg(a.dot + n)};
#pragma unroll
    for (int i = 0; i < kOutVectors; ++i) read.d_out[i] = __ldg(reinterpret_cast<const uint4*>(d_out) + i);
    return read;
  };
  RowLane<T>::template each<4 / kOutVectors>(begin, a.window, ahead, [&](int row, int t, bool present, int d, const Read& read) {
    T* const place = rows + row * kHeadPitch<T> + d;
    const Outputs<T> open = Outputs<T>::of(read.open);
    const Outputs<T> d_out = floats_at<T>(reinterpret_cast<const GradientOf<T>*>(read.d_out));
    const float inverse = read.inverse, dot = read.dot;
    Outputs<T> mixed = Outputs<T>::of(*reinterpret_cast<const uint4*>(place)), d_open;
    float term = 0.0f;
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) {
      const float value = present ? mixed.at[i] : 0.0f, s = sigmoid_of(open.at[i]), normed = value * s * inverse;
      const float d_y = inverse * (gain.at[i] * d_out.at[i] - normed * dot);
      gain_sum.at[i] += d_out.at[i] * normed;
      d_open.at[i] = d_y * value * s * (1.0f - s);
      mixed.at[i] = present ? d_y * s : 0.0f;
      term += mixed.at[i] * value;
    }
    term = RowLane<T>::sum(term);
    mixed.store(place);
    if (present) {
      d_open.store(d_currents.at(t, kOpen, d));
      mixed.store(a.at(a.d_mixed, t, d));
    }
    if (lane % RowLane<T>::kLanes == 0) notes[row].y = term;
  });
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) {
    float sum = gain_sum.at[i];
#pragma unroll
    for (int lanes = RowLane<T>::kLanes; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, lanes);
    if (lane < RowLane<T>::kLanes) d_gain[d_of_lane + i] = sum;
  }
  __syncwarp();
}

// Replaces a score by its softmax weight, or 0 if the key is not visible, and the weight's gradient by eight times the score's:
// weight (d_weight - term).
__device__ inline void weigh(float& score, float& d_weight, bool seen, float log_sum, float term) {
  score = seen ? exp2_of(score * kExponent - log_sum) : 0.0f;
  d_weight = score * (d_weight - term);
}

// Least number of blocks of either pass per multiprocessor: more would spill registers before Hopper.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr int kQueryBlocks = 2, kKeyBlocks = 3;
#else
inline constexpr int kQueryBlocks = 1, kKeyBlocks = 2;
#endif

template <typename T>
struct QueriesMemory {
  AttendMemory<T> attend;
  float2 notes[kTile<T> / 16][16];
  float inverse[kTile<T> / 16][16];
  float d_gain[kTile<T> / 16][kDims];
  T d_mixed[kHeld<T> ? 1 : kTile<T> / 16][kHeld<T> ? kVector<T> : 16 * kHeadPitch<T>];
};
static_assert(sizeof(QueriesMemory<__half>) <= 64 * 1024);  // available on an old card

template <typename T>
__global__ void __launch_bounds__(kTileThreads<T>, kQueryBlocks) queries_kernel(const Windows<T> a) {
  auto& memory = *reinterpret_cast<QueriesMemory<T>*>(shared_memory);
  constexpr int kThreads = kTileThreads<T>;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int begin = static_cast<int>(gridDim.z - 1 - blockIdx.z) * kTile<T>;  // those that see the most keys come first
  Angles<T>& angles = memory.attend.angles;
  const int* const first = a.first + a.token();
  const int oldest = first[begin] / kTile<T> * kTile<T>;
  angles.template make<kThreads>();
  angles.template move<kThreads>(begin);
  __syncthreads();
  const Queries queries(first, begin + warp * 16, a.window);
  TileLoad<T, kThreads, kTile<T>>::turned(memory.attend.queries, angles, a.head_currents(), kQuery, begin, a.window, 0,
                                          [&](int row, int d, float inverse) {
                                            if (d == 0) memory.inverse[row / 16][row % 16] = inverse;
                                          });
  __syncthreads();
  T* const rows = memory.attend.queries_of(warp);
  RowLane<T>::each(begin + warp * 16, a.window, [&](int row, int t, bool present, int d) {
    if (present) *reinterpret_cast<uint4*>(a.at(a.q, t, d)) = *reinterpret_cast<const uint4*>(rows + row * kHeadPitch<T> + d);
  });
  Left<T, kDims> q(rows);
  q.read();
  Mixed mixed;
  float log_sum[2], term[2];
  attend(memory.attend, a.head_currents(), oldest, begin, a.window, queries, q, mixed, log_sum);

  // The mixed values overwrite the queries if registers hold these.
  Left<T, kDims, false> d_mixed(kHeld<T> ? rows : memory.d_mixed[kHeld<T> ? 0 : warp]);
  float2* const notes = memory.notes[warp];
  d_mixed.round(mixed);
#pragma unroll
  for (int half = 0; half < 2; ++half) notes[row_of(0, 2 * half)].x = __log2f(log_sum[half]);
  __syncwarp();
  open_backward(a, d_mixed.rows, notes, queries.begin, memory.d_gain[warp]);
  if (thread % 32 < 16 && queries.begin + thread % 32 < a.window) a.head_notes()[queries.begin + thread % 32] = notes[thread % 32];
#pragma unroll
  for (int half = 0; half < 2; ++half) log_sum[half] = notes[row_of(0, 2 * half)].x, term[half] = notes[row_of(0, 2 * half)].y;

  Mixed d_q;
  clear_accumulators<1, kDims / 8>(d_q);
  Left<T, kStep> d_scores(memory.attend.weights[warp]);
  for (int key = begin; key >= oldest; key -= kTile<T>) {
    if (key < begin) load_keys(memory.attend, a.head_currents(), key, a.window);
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
          weigh(scores[0][j][e], d_weights[0][j][e], whole || queries.sees(e / 2, key + row + column_of(j) + e % 2), log_sum[e / 2],
                term[e / 2]);
      d_scores.round(d_weights);
      d_scores.template multiply<Along::across>(d_q, k, kHeadPitch<T>);
    });
  }
  angles.template move<kThreads>(begin);
  __syncthreads();
  const Strip<T> strip(memory.attend.tiles);
  turned_backward(d_q, q, memory.inverse[warp], strip, angles, kQuery, queries.begin, a.window, a.d_head_currents());
  for (int d = thread; d < kDims; d += kThreads) {
    float sum = 0.0f;
    for (int i = 0; i < kTile<T> / 16; ++i) sum += memory.d_gain[i][d];
    a.sums[(static_cast<std::int64_t>(blockIdx.y) * gridDim.z + begin / kTile<T>)*(gridDim.x * kDims) + a.head() * kDims + d] = sum;
  }
}

// Adds the windows' sums, tile by tile, in order, to the total.
__global__ void totals_kernel(const float* sums, int count, float* d_gain) {
  const int d = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  float total = d_gain[d];
  for (int i = 0; i < count; ++i) total += sums[static_cast<std::int64_t>(i) * (gridDim.x * blockDim.x) + d];
  d_gain[d] = total;
}

// The pass over keys: a block's warps hold its keys as left sides and meet them with tiles of queries.
template <typename T>
inline constexpr int kKeys = kHeld<T> ? 64 : 32;
template <typename T>
inline constexpr int kKeyThreads = 2 * kKeys<T>;

template <typename T>
struct KeysMemory {
  HeadTile<T> tiles[2];  // queries, d_mixed
  float2 notes[kTile<T>];
  int oldest[kTile<T>];
  float inverse[kKeys<T> / 16][16];
  Angles<T> angles;
  alignas(16) T own[kHeld<T> ? kVector<T> : 2 * kKeys<T> * kHeadPitch<T>];  // keys and values that registers do not hold
  typename Left<T, kStep>::Room weights[kKeys<T> / 16];
};

template <typename T>
__global__ void __launch_bounds__(kKeyThreads<T>, kKeyBlocks) keys_kernel(const Windows<T> a) {
  auto& memory = *reinterpret_cast<KeysMemory<T>*>(shared_memory);
  T *const queries = memory.tiles[0], *const d_mixed_tile = memory.tiles[1];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int block_key = static_cast<int>(blockIdx.z) * kKeys<T>, key = block_key + warp * 16;
  const HeadCurrents<const T> currents = a.head_currents();
  const auto first = [&](int t) { return __ldg(a.first + a.token() + t); };
  Angles<T>& angles = memory.angles;
  const int tile = block_key / kTile<T> * kTile<T>;
  angles.template make<kKeyThreads<T>>();
  angles.template move<kKeyThreads<T>>(tile);
  __syncthreads();
  T* const keys = kHeld<T> ? memory.tiles[0] : memory.own;
  T* const values = kHeld<T> ? memory.tiles[1] : keys + kKeys<T> * kHeadPitch<T>;
  using Load = TileLoad<T, kKeyThreads<T>, kKeys<T>>;
  Load::turned(keys, angles, currents, kKey, block_key, a.window, block_key - tile, [&](int row, int d, float inverse) {
    if (d == 0) memory.inverse[row / 16][row % 16] = inverse;
  });
  Load::values(values, currents, block_key, a.window);
  __syncthreads();
  Left<T, kDims> k(keys + warp * 16 * kHeadPitch<T>), v(values + warp * 16 * kHeadPitch<T>);
  k.read();
  v.read();
  Mixed d_k, d_v;
  clear_accumulators<1, kDims / 8>(d_k);
  clear_accumulators<1, kDims / 8>(d_v);
  Left<T, kStep> weights(memory.weights[warp]);
  for (int begin = tile; begin < a.window && first(begin) < block_key + kKeys<T>; begin += kTile<T>) {
    __syncthreads();
    constexpr int kVectors = RowLane<T>::kLanes;
#pragma unroll 1
    for (int i = thread; i < kTile<T> * kVectors; i += kKeyThreads<T>) {
      const int row = i / kVectors, d = i % kVectors * kVector<T>, t = min(begin + row, a.window - 1);
      copy_behind(queries + row * kHeadPitch<T> + d, a.at(a.q, t, d), begin + row < a.window);
      copy_behind(d_mixed_tile + row * kHeadPitch<T> + d, a.at(a.d_mixed, t, d), begin + row < a.window);
    }
    close_stage();
    for (int row = thread; row < kTile<T>; row += kKeyThreads<T>) {
      const int t = min(begin + row, a.window - 1);
      memory.notes[row] = __ldg(a.head_notes() + t), memory.oldest[row] = first(t);
    }
    await_stages<0>();
    __syncthreads();
#pragma unroll 1
    for (int row = 0; row < kTile<T>; row += kStep) {
      const int query = begin + row;
      if (query + kStep <= key || query >= a.window || memory.oldest[row] > key + 15) continue;  // no query sees a key
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
  const Strip<T> strip(memory.tiles);
  turned_backward(d_k, k, memory.inverse[warp], strip, angles, kKey, key, a.window, a.d_head_currents());
  strip.put(d_v);
  values_backward(strip, currents, key, a.window, a.d_head_currents());
}

}  // namespace

void attention_backward(CudaDevice& device, const AttentionBackward& a) {
  require_heads(a.currents, a.window);
  require_products(device, a.currents.dtype);
  require_operands(a.currents.dtype == a.d_currents.dtype, "attention_backward: currents and their gradient differ in type");
  require_operands(a.d_out.dtype == gradient_of(a.currents.dtype), "attention_backward: the output's gradient has the wrong type");
  for (const TensorView& view : {a.inverse_rms, a.dot, a.gain, a.d_gain})
    require_operands(view.dtype == DType::f32, "attention_backward: all operands but currents and outputs' gradients must be f32");
  for (const TensorView& view : {a.q, a.d_mixed})
    require_operands(view.contiguous() && view.dtype == a.d_currents.dtype && view.elements() == a.d_out.elements(),
                     "attention_backward: q or d_mixed has the wrong type or shape");
  require_operands(a.notes.contiguous() && a.notes.dtype == DType::f32 && a.notes.elements() == a.currents[0] * a.currents[1],
                   "attention_backward: the notes have the wrong type or shape");
  dispatch_float(a.d_currents.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Windows<T> windows{a.currents.as<const T>(),
                             a.currents.row_stride,
                             static_cast<int>(a.currents[2]),
                             a.first.as<const int>(),
                             static_cast<int>(a.window),
                             a.d_out.as<const GradientOf<T>>(),
                             a.d_out.row_stride,
                             a.inverse_rms.as<const float>(),
                             a.dot.as<const float>(),
                             a.gain.as<const float>(),
                             a.d_currents.as<T>(),
                             a.d_currents.row_stride,
                             a.q.as<T>(),
                             a.d_mixed.as<T>(),
                             a.notes.as<float2>(),
                             a.sums.as<float>()};
    const auto heads = static_cast<unsigned>(a.currents[0] / 2), count = static_cast<unsigned>(a.currents[1] / a.window),
               tiles = pieces(a.window, kTile<T>);
    require_operands(a.sums.contiguous() && a.sums.dtype == DType::f32 && a.sums.elements() == count * tiles * heads * kHead,
                     "attention_backward: the sums have the wrong type or shape");
    launch_with(device, "attention_backward", queries_kernel<T>, dim3(heads, count, tiles), dim3(kTileThreads<T>),
                sizeof(QueriesMemory<T>), windows);
    launch(device, "attention_backward", totals_kernel, dim3(heads), dim3(kDims), 0, windows.sums, static_cast<int>(count * tiles),
           a.d_gain.as<float>());
    launch_with(device, "attention_backward", keys_kernel<T>, dim3(heads, count, pieces(a.window, kKeys<T>)), dim3(kKeyThreads<T>),
                sizeof(KeysMemory<T>), windows);
  });
}

}  // namespace neurogen

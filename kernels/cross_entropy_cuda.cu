#include "kernels/base/cuda_softmax.cuh"
#include "kernels/cross_entropy.h"

namespace neurogen {
namespace {

constexpr int kTileThreads = 256;  // per row of a tile
constexpr int kRowThreads = 512;   // per whole row: few rows at a time, so that they are still in the cache when read again
constexpr int kSumThreads = 1024;
constexpr int kWarps = 8;  // rows that a block searches for the likeliest tokens, one warp each

// Four logits of a row from column i on; those beyond its width are -inf, which adds nothing to any sum.
template <typename Logit, typename Cap>
__device__ float4 last_four(const Logit* row, std::int64_t i, std::int64_t width, Cap cap) {
  const auto at = [&](std::int64_t column) { return column < width ? cap(to_float(row[column])) : -INFINITY; };
  return {at(i), at(i + 1), at(i + 2), at(i + 3)};
}

// Calls body(column, four logits) for a thread's share of a row, and rest(column, four logits) for a last group of fewer than four.
template <int kThreads, typename Logit, typename Cap, typename Body, typename Rest>
__device__ void for_fours(const Logit* row, std::int64_t width, Cap cap, Body&& body, Rest&& rest) {
  const std::int64_t whole = width / 4 * 4;
#pragma unroll 4
  for (std::int64_t i = 4 * threadIdx.x; i < whole; i += 4 * kThreads) body(i, cap(load_four(row + i)));
  if (whole < width && threadIdx.x == 0) rest(whole, last_four(row, whole, width, cap));
}

template <int kThreads, typename Logit, typename Cap>
__device__ RowStatistics statistics_of(const Logit* row, std::int64_t width, Cap cap, float before) {
  RunningSoftmax running;
  const auto add = [&](std::int64_t, float4 x) { running.add(x); };
  for_fours<kThreads>(row, width, cap, add, add);
  return running.of_row<kThreads>(before);
}

template <typename Logit, typename Cap>
__global__ void __launch_bounds__(kTileThreads)
    statistics(const Logit* logits, std::int64_t stride, std::int64_t width, const std::int32_t* targets, std::int64_t first_token,
               Cap cap, TiledStatistics all, float* target_logit) {
  const std::int64_t n = blockIdx.x;
  const Logit* row = logits + n * stride;
  const RowStatistics here = statistics_of<kTileThreads>(row, width, cap, all.before(n));
  if (threadIdx.x != 0) return;
  all.store(n, here);
  const std::int64_t target = targets[n] - first_token;
  if (target >= 0 && target < width) target_logit[n] = cap(to_float(row[target]));
}

// One block, so that the order of the sum depends only on the order of the tokens.
__global__ void __launch_bounds__(kSumThreads)
    losses(const float* maximum, const float* sum, const float* target_logit, const std::int32_t* targets, std::int64_t tokens,
           float* log_sum_exp, float* loss, double* total) {
  constexpr int kAhead = 8;  // tokens that a thread loads at once
  double all = 0, counted = 0;
  for (std::int64_t begin = threadIdx.x; begin < tokens; begin += kAhead * kSumThreads) {
    float maxima[kAhead], sums[kAhead], at_target[kAhead];
    std::int32_t target[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const std::int64_t n = min(begin + k * kSumThreads, tokens - 1);
      maxima[k] = maximum[n], sums[k] = sum[n], at_target[k] = target_logit[n], target[k] = targets[n];
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const std::int64_t n = begin + k * kSumThreads;
      if (n >= tokens) break;
      const float log_sum = maxima[k] + logf(sums[k]);
      const bool counts = target[k] >= 0;
      const float mine = counts ? log_sum - at_target[k] : 0.0f;
      log_sum_exp[n] = log_sum;
      loss[n] = mine;
      all += static_cast<double>(mine);
      counted += counts ? 1 : 0;
    }
  }
  all = block_sum<kSumThreads>(all);
  counted = block_sum<kSumThreads>(counted);
  if (threadIdx.x != 0) return;
  total[0] = all;
  total[1] = counted;
}

// What a token's softmax is multiplied by.
__device__ float gradient_scale(const StepControl* control, const double* total) {
  return total[1] == 0 ? 0.0f : (control ? control->loss_scale : 1.0f) * static_cast<float>(1 / total[1]);
}

// Softmax minus one-hot, through the cap, computed before it is rounded to the logits' type.
template <int kThreads, typename Logit, typename Cap>
__device__ void gradient_of(Logit* row, std::int64_t width, std::int64_t target, float log_sum, float share, Cap cap) {
  const auto of = [&](std::int64_t i, float4 x) {
    float4 d = {expf(x.x - log_sum) * share, expf(x.y - log_sum) * share, expf(x.z - log_sum) * share, expf(x.w - log_sum) * share};
    if (target == i) d.x -= share;
    if (target == i + 1) d.y -= share;
    if (target == i + 2) d.z -= share;
    if (target == i + 3) d.w -= share;
    d.x *= cap.derivative(x.x), d.y *= cap.derivative(x.y), d.z *= cap.derivative(x.z), d.w *= cap.derivative(x.w);
    return d;
  };
  for_fours<kThreads>(
      row, width, cap, [&](std::int64_t i, float4 x) { store_four(row + i, of(i, x)); },
      [&](std::int64_t i, float4 x) {
        const float4 d = of(i, x);
        row[i] = from_float<Logit>(d.x);
        if (i + 1 < width) row[i + 1] = from_float<Logit>(d.y);
        if (i + 2 < width) row[i + 2] = from_float<Logit>(d.z);
      });
}

template <typename Logit, typename Cap>
__global__ void __launch_bounds__(kTileThreads)
    gradient(Logit* logits, std::int64_t stride, std::int64_t width, const std::int32_t* targets, const float* log_sum_exp,
             const double* total, std::int64_t first_token, const StepControl* control, Cap cap) {
  const std::int64_t n = blockIdx.x, target = targets[n];
  gradient_of<kTileThreads>(logits + n * stride, width, target < 0 ? -1 : target - first_token, log_sum_exp[n],
                            target < 0 ? 0.0f : gradient_scale(control, total), cap);
}

template <typename Logit, typename Cap>
__global__ void __launch_bounds__(kRowThreads)
    whole_rows(Logit* logits, std::int64_t stride, std::int64_t width, const std::int32_t* targets, const double* total,
               const StepControl* control, Cap cap, float* maximum, float* sum, float* target_logit) {
  const std::int64_t n = blockIdx.x, target = targets[n];
  Logit* row = logits + n * stride;
  const RowStatistics all = statistics_of<kRowThreads>(row, width, cap, -INFINITY);
  if (threadIdx.x == 0) {
    maximum[n] = all.largest, sum[n] = all.sum;
    if (target >= 0) target_logit[n] = cap(to_float(row[target]));
  }
  __syncthreads();  // the gradient replaces the target's logit
  gradient_of<kRowThreads>(row, width, target, all.largest + logf(all.sum), target < 0 ? 0.0f : gradient_scale(control, total),
                           cap);
}

__global__ void __launch_bounds__(kSumThreads) count(const std::int32_t* targets, std::int64_t tokens, double* total) {
  std::int64_t counted = 0;
  for (std::int64_t n = threadIdx.x; n < tokens; n += kSumThreads) counted += targets[n] >= 0;
  counted = block_sum<kSumThreads>(counted);
  if (threadIdx.x == 0) total[0] = 0, total[1] = static_cast<double>(counted);
}

__global__ void cap_all(float* logits, std::int64_t stride, std::int64_t width, Softcap cap) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kTileThreads + threadIdx.x;
  float& logit = logits[blockIdx.y * stride + i];
  if (i < width) logit = cap(logit);
}

// Orders candidates: the larger logit comes first, the lower id among equals.
__device__ bool before(float x, int x_token, float y, int y_token) { return x > y || (x == y && x_token < y_token); }

// Every lane keeps the likeliest of its share, sorted; then the warp takes the best of all lanes' first candidates, five times.
template <typename Logit>
__global__ void likeliest(const Logit* logits, std::int64_t stride, std::int64_t rows, std::int64_t width, std::int64_t first_token,
                          float* logit, std::int32_t* token) {
  constexpr int kNobody = 0x7FFFFFFF;
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (n >= rows) return;
  const Logit* row = logits + n * stride;
  float best[kLikeliest];
  int id[kLikeliest];
  // The first lane's share includes the result of earlier tiles.
  const bool resumed = first_token != 0 && threadIdx.x % 32 == 0;
#pragma unroll
  for (int i = 0; i < kLikeliest; ++i) {
    best[i] = resumed ? logit[n * kLikeliest + i] : -INFINITY;
    id[i] = resumed && token[n * kLikeliest + i] >= 0 ? token[n * kLikeliest + i] : kNobody;
  }
  const auto offer = [&](float x, std::int64_t column) {
    if (!(x > best[kLikeliest - 1])) return;
    best[kLikeliest - 1] = x;
    id[kLikeliest - 1] = static_cast<int>(first_token + column);
#pragma unroll
    for (int i = kLikeliest - 1; i > 0; --i) {
      if (!(best[i] > best[i - 1])) continue;
      const float worse = best[i - 1];
      const int worse_id = id[i - 1];
      best[i - 1] = best[i], id[i - 1] = id[i];
      best[i] = worse, id[i] = worse_id;
    }
  };
  for (std::int64_t i = 4 * (threadIdx.x % 32); i < width; i += 128) {
    const float4 x = i + 4 <= width ? load_four(row + i) : last_four(row, i, width, Uncapped());
    offer(x.x, i), offer(x.y, i + 1), offer(x.z, i + 2), offer(x.w, i + 3);
  }
  for (int place = 0; place < kLikeliest; ++place) {
    float top = best[0];
    int top_id = id[0];
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(0xFFFFFFFFu, top, step);
      const int other_id = __shfl_xor_sync(0xFFFFFFFFu, top_id, step);
      if (before(other, other_id, top, top_id)) top = other, top_id = other_id;
    }
    if (id[0] == top_id) {  // it came from this lane
#pragma unroll
      for (int i = 0; i + 1 < kLikeliest; ++i) best[i] = best[i + 1], id[i] = id[i + 1];
      best[kLikeliest - 1] = -INFINITY, id[kLikeliest - 1] = kNobody;
    }
    if (threadIdx.x % 32 != 0) continue;
    logit[n * kLikeliest + place] = top;
    token[n * kLikeliest + place] = top_id == kNobody ? -1 : top_id;
  }
}

__global__ void __launch_bounds__(kSumThreads)
    hits_of(const std::int32_t* token, const std::int32_t* targets, std::int64_t tokens, double* hits) {
  double first = 0, any = 0;
  for (std::int64_t n = threadIdx.x; n < tokens; n += kSumThreads) {
    for (int i = 0; i < kLikeliest && targets[n] >= 0; ++i) {
      const bool hit = token[n * kLikeliest + i] == targets[n];
      first += i == 0 && hit ? 1 : 0;
      any += hit ? 1 : 0;
    }
  }
  first = block_sum<kSumThreads>(first);
  any = block_sum<kSumThreads>(any);
  if (threadIdx.x != 0) return;
  hits[0] = first;
  hits[1] = any;
}

void require_rows(const TensorView& logits, const char* sentence) {
  require_operands(logits.row_stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(logits.data) % (4 * size_of(logits.dtype)) == 0,
                   sentence);
}

}  // namespace

void softmax_statistics(CudaDevice& device, const SoftmaxStatistics& a) {
  require_rows(a.logits, "softmax_statistics: rows must begin at multiples of 4 logits");
  dispatch_float(a.logits.dtype, [&](auto logit) {
    using Logit = decltype(logit);
    dispatch_softcap(a.softcap, [&](auto cap) {
      launch(device, "softmax_statistics", statistics<Logit, decltype(cap)>, dim3(pieces(a.logits[0], 1)), dim3(kTileThreads), 0,
             a.logits.as<const Logit>(), a.logits.row_stride, a.logits[1], a.targets.as<const std::int32_t>(), a.first_token, cap,
             TiledStatistics{a.maximum.as<float>(), a.sum.as<float>(), a.first_token == 0}, a.target_logit.as<float>());
    });
  });
}

void cross_entropy_loss(CudaDevice& device, const CrossEntropyLoss& a) {
  require_operands(a.maximum.dtype == DType::f32 && a.loss.dtype == DType::f32, "cross_entropy_loss: statistics must be f32");
  launch(device, "cross_entropy_loss", losses, dim3(1), dim3(kSumThreads), 0, a.maximum.as<const float>(), a.sum.as<const float>(),
         a.target_logit.as<const float>(), a.targets.as<const std::int32_t>(), a.loss.elements(), a.log_sum_exp.as<float>(),
         a.loss.as<float>(), a.total.as<double>());
}

void cross_entropy_backward(CudaDevice& device, const CrossEntropyBackward& a) {
  require_rows(a.logits, "cross_entropy_backward: rows must begin at multiples of 4 logits");
  dispatch_float(a.logits.dtype, [&](auto logit) {
    using Logit = decltype(logit);
    dispatch_softcap(a.softcap, [&](auto cap) {
      launch(device, "cross_entropy_backward", gradient<Logit, decltype(cap)>, dim3(pieces(a.logits[0], 1)), dim3(kTileThreads), 0,
             a.logits.as<Logit>(), a.logits.row_stride, a.logits[1], a.targets.as<const std::int32_t>(),
             a.log_sum_exp.as<const float>(), a.total.as<const double>(), a.first_token, a.control.as<const StepControl>(), cap);
    });
  });
}

void count_targets(CudaDevice& device, const CountTargets& a) {
  launch(device, "count_targets", count, dim3(1), dim3(kSumThreads), 0, a.targets.as<const std::int32_t>(), a.targets.elements(),
         a.total.as<double>());
}

void cross_entropy_rows(CudaDevice& device, const CrossEntropyRows& a) {
  require_rows(a.logits, "cross_entropy_rows: rows must begin at multiples of 4 logits");
  dispatch_float(a.logits.dtype, [&](auto logit) {
    using Logit = decltype(logit);
    dispatch_softcap(a.softcap, [&](auto cap) {
      launch(device, "cross_entropy_rows", whole_rows<Logit, decltype(cap)>, dim3(pieces(a.logits[0], 1)), dim3(kRowThreads), 0,
             a.logits.as<Logit>(), a.logits.row_stride, a.logits[1], a.targets.as<const std::int32_t>(), a.total.as<const double>(),
             a.control.as<const StepControl>(), cap, a.maximum.as<float>(), a.sum.as<float>(), a.target_logit.as<float>());
    });
  });
}

void softcap_logits(CudaDevice& device, const SoftcapLogits& a) {
  require_operands(a.logits.dtype == DType::f32, "softcap_logits: the logits must be f32");
  launch(device, "softcap_logits", cap_all, dim3(pieces(a.logits[1], kTileThreads), pieces(a.logits[0], 1)), dim3(kTileThreads), 0,
         a.logits.as<float>(), a.logits.row_stride, a.logits[1], Softcap(a.softcap));
}

void likeliest_tokens(CudaDevice& device, const LikeliestTokens& a) {
  require_rows(a.logits, "likeliest_tokens: rows must begin at multiples of 4 logits");
  require_operands(a.logit.dtype == DType::f32, "likeliest_tokens: the kept logits must be f32");
  dispatch_float(a.logits.dtype, [&](auto logit) {
    using Logit = decltype(logit);
    launch(device, "likeliest_tokens", likeliest<Logit>, dim3(pieces(a.logits[0], kWarps)), dim3(32 * kWarps), 0,
           a.logits.as<const Logit>(), a.logits.row_stride, a.logits[0], a.logits[1], a.first_token, a.logit.as<float>(),
           a.token.as<std::int32_t>());
  });
}

void count_hits(CudaDevice& device, const CountHits& a) {
  launch(device, "count_hits", hits_of, dim3(1), dim3(kSumThreads), 0, a.token.as<const std::int32_t>(),
         a.targets.as<const std::int32_t>(), a.targets.elements(), a.hits.as<double>());
}

}  // namespace neurogen

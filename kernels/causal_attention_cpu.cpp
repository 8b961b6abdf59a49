#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/causal_attention.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

constexpr std::int64_t kQueries = 64;  // queries whose scores exist at a time

// Rows of one head, from a window's first token on.
template <typename Real>
struct Panel {
  Real* data;
  std::int64_t stride;

  Panel(const TensorView& x, std::int64_t token, std::int64_t head, std::int64_t width)
      : data(x.as<Real>() + token * x.row_stride + head * width), stride(x.row_stride) {}
  Real* operator[](std::int64_t t) const { return data + t * stride; }
};

// Queries [begin, begin + rows), against the keys from `key` (the first that any of them sees) to the block's end.
struct QueryBlock {
  std::int64_t begin, rows, key, keys;

  QueryBlock(const std::int32_t* first, std::int64_t begin_, std::int64_t window)
      : begin(begin_), rows(std::min(kQueries, window - begin_)), key(first[begin_]), keys(begin + rows - key) {}
};

template <typename Real>
NEUROGEN_CLONES void clear_outside(Real* scores, std::int64_t begin, std::int64_t end, std::int64_t keys) {
  for (std::int64_t j = 0; j < begin; ++j) scores[j] = 0;
  for (std::int64_t j = end; j < keys; ++j) scores[j] = 0;
}

// Turns the scores of the keys [begin, end), which the query sees, into probabilities.
template <typename Real>
NEUROGEN_CLONES void softmax(Real* scores, std::int64_t begin, std::int64_t end, Real scale, Real* log_sum_exp) {
  Real maximum = scores[begin];
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = begin; j < end; ++j) maximum = scores[j] > maximum ? scores[j] : maximum;
#pragma omp simd
  for (std::int64_t j = begin; j < end; ++j) scores[j] = fast_exp((scores[j] - maximum) * scale);
  const Real* const weights = scores + begin;
  const Real sum = sum_over<Real>(end - begin, [=](std::int64_t j) NEUROGEN_LAMBDA { return weights[j]; });
  const Real share = Real(1) / sum;
#pragma omp simd
  for (std::int64_t j = begin; j < end; ++j) scores[j] *= share;
  *log_sum_exp = maximum * scale + std::log(sum);
}

// The same probabilities from the forward pass' sum.
template <typename Real>
NEUROGEN_CLONES void softmax_again(Real* scores, std::int64_t begin, std::int64_t end, Real scale, Real log_sum_exp) {
#pragma omp simd
  for (std::int64_t j = begin; j < end; ++j) scores[j] = fast_exp(scores[j] * scale - log_sum_exp);
}

// Turns d_scores from the gradient of the probabilities into that of the products q k.
template <typename Real>
NEUROGEN_CLONES void softmax_backward(const Real* probabilities, Real* d_scores, Real dot, Real scale, std::int64_t keys) {
#pragma omp simd
  for (std::int64_t j = 0; j < keys; ++j) d_scores[j] = probabilities[j] * (d_scores[j] - dot) * scale;
}

template <typename Real>
NEUROGEN_CLONES void dot_of(const Real* a, const Real* b, std::int64_t n, Real* dot) {
  *dot = sum_over<Real>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return a[i] * b[i]; });
}

template <typename Real>
Real scale_of(std::int64_t width) {
  return static_cast<Real>(1 / std::sqrt(static_cast<double>(width)));
}

template <typename Real>
void score(const QueryBlock& b, const Panel<const Real>& q, const Panel<const Real>& k, std::int64_t width, Real* scores) {
  matmul_serial<Real>(Transpose::no, Transpose::yes, b.rows, b.keys, width, q[b.begin], q.stride, k[b.key], k.stride, Real(0),
                      scores, b.keys);
}

template <typename Real>
void forward(CpuDevice& device, const CausalAttentionForward& a) {
  const std::int64_t width = a.q[1] / a.heads.queries, shared = a.heads.queries / a.heads.keys;
  const Real scale = scale_of<Real>(width);
  device.parallel(a.heads.queries * (a.q[0] / a.window), [&](std::int64_t item, int thread) {
    const std::int64_t head = item % a.heads.queries, token = item / a.heads.queries * a.window;
    const Panel<const Real> q(a.q, token, head, width), k(a.k, token, head / shared, width), v(a.v, token, head / shared, width);
    const Panel<Real> out(a.out, token, head, width);
    const std::int32_t* const first = a.first.as<const std::int32_t>() + token;
    Real* const scores = a.scratch.as<Real>() + thread * a.scratch.row_stride;
    for (std::int64_t begin = 0; begin < a.window; begin += kQueries) {
      const QueryBlock b(first, begin, a.window);
      score(b, q, k, width, scores);
      for (std::int64_t i = 0; i < b.rows; ++i) {
        const std::int64_t from = first[begin + i] - b.key, end = begin + i + 1 - b.key;
        Real unread, *const sum = a.log_sum_exp ? a.log_sum_exp.as<Real>() + head * a.q[0] + token + begin + i : &unread;
        clear_outside(scores + i * b.keys, from, end, b.keys);
        softmax(scores + i * b.keys, from, end, scale, sum);
      }
      matmul_serial<Real>(Transpose::no, Transpose::no, b.rows, width, b.keys, scores, b.keys, v[b.key], v.stride, Real(0),
                          out[begin], out.stride);
    }
  });
}

template <typename Real>
void clear_rows(const Panel<Real>& to, std::int64_t rows, std::int64_t width) {
  for (std::int64_t t = 0; t < rows; ++t) std::fill_n(to[t], width, Real(0));
}

// All heads that share a head of keys, in one window.
template <typename Real>
void backward_keys(const CausalAttentionBackward& a, std::int64_t key_head, std::int64_t token, Real* scores) {
  const std::int64_t width = a.q[1] / a.heads.queries, shared = a.heads.queries / a.heads.keys;
  const Real scale = scale_of<Real>(width);
  Real* const d_scores = scores + std::min(kQueries, a.window) * a.window;
  const std::int32_t* const first = a.first.as<const std::int32_t>() + token;
  const Panel<const Real> k(a.k, token, key_head, width), v(a.v, token, key_head, width);
  const Panel<Real> d_k(a.d_k, token, key_head, width), d_v(a.d_v, token, key_head, width);
  clear_rows(d_k, a.window, width);
  clear_rows(d_v, a.window, width);
  for (std::int64_t head = key_head * shared; head < (key_head + 1) * shared; ++head) {
    const Panel<const Real> q(a.q, token, head, width), out(a.out, token, head, width), d_out(a.d_out, token, head, width);
    const Panel<Real> d_q(a.d_q, token, head, width);
    const Real* const sums = a.log_sum_exp.as<const Real>() + head * a.q[0] + token;
    Real* const dots = a.dot.as<Real>() + head * a.q[0] + token;
    for (std::int64_t begin = 0; begin < a.window; begin += kQueries) {
      const QueryBlock b(first, begin, a.window);
      score(b, q, k, width, scores);
      for (std::int64_t i = 0; i < b.rows; ++i) {
        const std::int64_t from = first[begin + i] - b.key, end = begin + i + 1 - b.key;
        clear_outside(scores + i * b.keys, from, end, b.keys);
        softmax_again(scores + i * b.keys, from, end, scale, sums[begin + i]);
      }
      matmul_serial<Real>(Transpose::yes, Transpose::no, b.keys, width, b.rows, scores, b.keys, d_out[begin], d_out.stride, Real(1),
                          d_v[b.key], d_v.stride);
      matmul_serial<Real>(Transpose::no, Transpose::yes, b.rows, b.keys, width, d_out[begin], d_out.stride, v[b.key], v.stride,
                          Real(0), d_scores, b.keys);
      for (std::int64_t i = 0; i < b.rows; ++i) {
        dot_of(out[begin + i], d_out[begin + i], width, dots + begin + i);
        softmax_backward(scores + i * b.keys, d_scores + i * b.keys, dots[begin + i], scale, b.keys);
      }
      matmul_serial<Real>(Transpose::no, Transpose::no, b.rows, width, b.keys, d_scores, b.keys, k[b.key], k.stride, Real(0),
                          d_q[begin], d_q.stride);
      matmul_serial<Real>(Transpose::yes, Transpose::no, b.keys, width, b.rows, d_scores, b.keys, q[begin], q.stride, Real(1),
                          d_k[b.key], d_k.stride);
    }
  }
}

// A stream's ring: the positions [oldest, position] that a token sees.
struct Ring {
  std::int64_t slots, stride, oldest, position;
};

template <typename Real>
NEUROGEN_CLONES void step_head(const Real* q, const Real* keys, const Real* values, Ring ring, std::int64_t width, Real scale,
                               Real* out) {
  Real maximum = 0, sum = 0;
  for (std::int64_t j = 0; j < width; ++j) out[j] = 0;
  for (std::int64_t p = ring.oldest; p <= ring.position; ++p) {
    const Real *const key = keys + p % ring.slots * ring.stride, *const v = values + p % ring.slots * ring.stride;
    const Real score = sum_over<Real>(width, [=](std::int64_t j) NEUROGEN_LAMBDA { return q[j] * key[j]; }) * scale;
    const Real before = maximum;
    if (p == ring.oldest || score > maximum) maximum = score;
    const Real shrink = p == ring.oldest ? Real(0) : fast_exp(before - maximum), weight = fast_exp(score - maximum);
    sum = sum * shrink + weight;
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) out[j] = out[j] * shrink + weight * v[j];
  }
  for (std::int64_t j = 0; j < width; ++j) out[j] /= sum;
}

void require_heads(const HeadCounts& heads, const TensorView& q, const TensorView& k) {
  require(
      heads.keys > 0 && heads.queries % heads.keys == 0 && q[1] % heads.queries == 0 && k[1] * heads.queries == q[1] * heads.keys,
      "causal_attention: the heads of keys must divide those of queries, and have their width");
}

void require_windows(const HeadCounts& heads, const TensorView& q, const TensorView& k, std::int64_t window,
                     const TensorView& scratch) {
  require_heads(heads, q, k);
  require(window > 0 && q[0] % window == 0, "causal_attention: the tokens must be whole windows");
  require(scratch.row_elements() >= causal_attention_scratch(window), "causal_attention: the scratch is too small");
}

}  // namespace

// Scores and their gradients, of 64 queries and all keys.
std::int64_t causal_attention_scratch(std::int64_t window) {
  return static_cast<std::int64_t>(multiply(static_cast<Bytes>(window), static_cast<Bytes>(2 * std::min(kQueries, window))));
}

void causal_attention_forward(CpuDevice& device, const CausalAttentionForward& a) {
  require_windows(a.heads, a.q, a.k, a.window, a.scratch);
  require_type("causal_attention_forward", a.q.dtype, {a.k, a.v, a.out, a.log_sum_exp, a.scratch});
  dispatch_real(a.q.dtype, [&](auto zero) { forward<decltype(zero)>(device, a); });
}

void causal_attention_backward(CpuDevice& device, const CausalAttentionBackward& a) {
  require_windows(a.heads, a.q, a.k, a.window, a.scratch);
  require_type("causal_attention_backward", a.q.dtype,
               {a.k, a.v, a.out, a.log_sum_exp, a.d_out, a.d_q, a.d_k, a.d_v, a.dot, a.scratch});
  dispatch_real(a.q.dtype, [&](auto zero) {
    using Real = decltype(zero);
    device.parallel(a.heads.keys * (a.q[0] / a.window), [&](std::int64_t item, int thread) {
      backward_keys<Real>(a, item % a.heads.keys, item / a.heads.keys * a.window,
                          a.scratch.as<Real>() + thread * a.scratch.row_stride);
    });
  });
}

void causal_attention_step(CpuDevice& device, const CausalAttentionStep& a) {
  require_heads(a.heads, a.q, a.k);
  require_type("causal_attention_step", a.q.dtype, {a.k, a.v, a.keys, a.values, a.out});
  dispatch_real(a.q.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const std::int64_t width = a.q[1] / a.heads.queries, shared = a.heads.queries / a.heads.keys, slots = a.keys[1];
    const std::int64_t position = *a.position.as<const std::int64_t>(), first = *a.first.as<const std::int64_t>();
    const Ring ring{slots, a.keys[2], std::max({first, position - slots + 1, std::int64_t{0}}), position};
    for (std::int64_t b = 0; b < a.q[0]; ++b) {
      const std::int64_t at = b * a.keys.row_stride + position % slots * ring.stride;
      std::copy_n(a.k.as<const Real>() + b * a.k.row_stride, ring.stride, a.keys.as<Real>() + at);
      std::copy_n(a.v.as<const Real>() + b * a.v.row_stride, ring.stride, a.values.as<Real>() + at);
    }
    device.parallel(a.heads.queries * a.q[0], [&](std::int64_t item, int) {
      const std::int64_t head = item % a.heads.queries, b = item / a.heads.queries;
      const std::int64_t at = b * a.keys.row_stride + head / shared * width;
      step_head<Real>(a.q.as<const Real>() + b * a.q.row_stride + head * width, a.keys.as<const Real>() + at,
                      a.values.as<const Real>() + at, ring, width, scale_of<Real>(width),
                      a.out.as<Real>() + b * a.out.row_stride + head * width);
    });
  });
}

}  // namespace neurogen

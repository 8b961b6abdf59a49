#include <array>
#include <utility>

#include "kernels/base/dispatch.h"
#include "kernels/brain/attention.h"
#include "kernels/brain/synapses.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm_cpu.h"

namespace neurogen {
namespace {

constexpr std::int64_t kQueries = 64;       // queries whose scores exist at a time
constexpr std::int64_t kPairs = kHead / 2;  // pairs of neighbours that rotate together
constexpr double kScale = 0.125;            // 1 / sqrt(64)
enum Role { kQuery, kKey, kValue, kOpen, kStrength };

// The angle by which each pair rotates from one position to the next.
std::array<double, kPairs> frequencies() {
  std::array<double, kPairs> turns;
  for (std::int64_t i = 0; i < kPairs; ++i)
    turns[static_cast<std::size_t>(i)] = std::pow(10000.0, -2.0 * static_cast<double>(i) / kHead);
  return turns;
}

// cos and sin of a position's 32 angles, 64 values. In float64, since a stream's position may be large.
template <typename Real>
void angles(const std::array<double, kPairs>& turns, std::int64_t position, Real* cos_sin) {
  for (std::int64_t i = 0; i < kPairs; ++i) {
    const double angle = static_cast<double>(position) * turns[static_cast<std::size_t>(i)];
    cos_sin[i] = static_cast<Real>(std::cos(angle));
    cos_sin[kPairs + i] = static_cast<Real>(std::sin(angle));
  }
}

// The currents of one head, from two column groups: role r of output j of the head at token n.
template <typename Real>
struct HeadCurrents {
  Real* halves[2];
  std::int64_t columns;

  HeadCurrents(const TensorView& currents, std::int64_t head, std::int64_t token) : columns(currents[2]) {
    for (std::int64_t half = 0; half < 2; ++half)
      halves[half] = currents.as<Real>() + (2 * head + half) * currents.row_stride + token * columns;
  }
  bool has_strength() const { return columns == 5 * kGroup; }
  NEUROGEN_INLINE Real* at(std::int64_t t, std::int64_t role, std::int64_t half) const {
    return halves[half] + t * columns + role * kGroup;
  }
  NEUROGEN_INLINE void read(std::int64_t t, std::int64_t role, std::remove_const_t<Real>* out) const {
    for (std::int64_t half = 0; half < 2; ++half)
      for (std::int64_t j = 0; j < kGroup; ++j) out[half * kGroup + j] = at(t, role, half)[j];
  }
  NEUROGEN_INLINE void write(std::int64_t t, std::int64_t role, const Real* in) const {
    for (std::int64_t half = 0; half < 2; ++half)
      for (std::int64_t j = 0; j < kGroup; ++j) at(t, role, half)[j] = in[half * kGroup + j];
  }
};

// A query or key as attention uses it: normalised, then rotated.
template <typename Real>
NEUROGEN_INLINE void turned(const HeadCurrents<const Real>& currents, std::int64_t t, Role role, const Real* cos_sin, Real* out) {
  Real x[kHead];
  currents.read(t, role, x);
  const Real inverse = inverse_rms_of(x, kHead);
  for (std::int64_t i = 0; i < kPairs; ++i) {
    const Real a = x[2 * i] * inverse, b = x[2 * i + 1] * inverse, c = cos_sin[i], s = cos_sin[kPairs + i];
    out[2 * i] = a * c - b * s;
    out[2 * i + 1] = a * s + b * c;
  }
}

// Backward pass of `turned`: from d, the gradient of its result, to the gradient of the current.
template <typename Real>
NEUROGEN_CLONES void turned_backward(const HeadCurrents<const Real>& currents, std::int64_t t, Role role, const Real* cos_sin,
                                     const Real* d, const HeadCurrents<Real>& d_currents) {
  Real x[kHead], d_x[kHead];
  currents.read(t, role, x);
  const Real inverse = inverse_rms_of(x, kHead);
  for (std::int64_t i = 0; i < kPairs; ++i) {
    const Real c = cos_sin[i], s = cos_sin[kPairs + i];
    d_x[2 * i] = d[2 * i] * c + d[2 * i + 1] * s;
    d_x[2 * i + 1] = d[2 * i + 1] * c - d[2 * i] * s;
  }
  const Real dot = sum_over<Real>(kHead, [&](std::int64_t j) NEUROGEN_LAMBDA { return d_x[j] * x[j]; }) * inverse / Real(kHead);
  for (std::int64_t j = 0; j < kHead; ++j) d_x[j] = inverse * (d_x[j] - x[j] * inverse * dot);
  d_currents.write(t, role, d_x);
}

template <typename Real>
NEUROGEN_INLINE void value(const HeadCurrents<const Real>& currents, std::int64_t t, Real* out) {
  currents.read(t, kValue, out);
  if (!currents.has_strength()) return;
  Real strength[kHead];
  currents.read(t, kStrength, strength);
  for (std::int64_t j = 0; j < kHead; ++j) out[j] *= Real(2) * sigmoid(strength[j]);
}

template <typename Real>
NEUROGEN_CLONES void value_backward(const HeadCurrents<const Real>& currents, std::int64_t t, const Real* d,
                                    const HeadCurrents<Real>& d_currents) {
  if (!currents.has_strength()) return d_currents.write(t, kValue, d);
  Real v[kHead], strength[kHead], d_v[kHead], d_strength[kHead];
  currents.read(t, kValue, v);
  currents.read(t, kStrength, strength);
  for (std::int64_t j = 0; j < kHead; ++j) {
    const Real s = sigmoid(strength[j]);
    d_v[j] = d[j] * Real(2) * s;
    d_strength[j] = d[j] * v[j] * Real(2) * s * (Real(1) - s);
  }
  d_currents.write(t, kValue, d_v);
  d_currents.write(t, kStrength, d_strength);
}

// Queries, keys and values of one head and window.
template <typename Real>
NEUROGEN_CLONES void load_panels(const HeadCurrents<const Real>& currents, std::int64_t window, const Real* table, Real* q, Real* k,
                                 Real* v) {
  for (std::int64_t t = 0; t < window; ++t) {
    turned(currents, t, kQuery, table + t * kHead, q + t * kHead);
    turned(currents, t, kKey, table + t * kHead, k + t * kHead);
    value(currents, t, v + t * kHead);
  }
}

// Turns the scores of the keys [0, keys) into probabilities; only keys [begin, end) are visible.
template <typename Real>
NEUROGEN_CLONES void softmax(Real* scores, std::int64_t begin, std::int64_t end, std::int64_t keys) {
  Real maximum = scores[begin];
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = begin; j < end; ++j) maximum = scores[j] > maximum ? scores[j] : maximum;
#pragma omp simd
  for (std::int64_t j = begin; j < end; ++j) scores[j] = fast_exp((scores[j] - maximum) * Real(kScale));
  const Real* const weights = scores + begin;
  const Real scale = Real(1) / sum_over<Real>(end - begin, [=](std::int64_t j) NEUROGEN_LAMBDA { return weights[j]; });
  for (std::int64_t j = begin; j < end; ++j) scores[j] *= scale;
  for (std::int64_t j = 0; j < begin; ++j) scores[j] = 0;
  for (std::int64_t j = end; j < keys; ++j) scores[j] = 0;
}

// One thread's scratch. The first thread's holds the table of angles, made once per call and read by all.
template <typename Real>
struct Scratch {
  Real *q, *k, *v, *d_k, *d_v, *scores, *d_scores, *mixed, *d_mixed, *d_q;

  Scratch(const TensorView& scratch, int thread, std::int64_t window) {
    Real* next = scratch.as<Real>() + thread * scratch.row_stride + window * kHead;
    for (Real** panel : {&q, &k, &v, &d_k, &d_v, &scores, &d_scores}) *panel = std::exchange(next, next + window * kHead);
    for (Real** block : {&mixed, &d_mixed, &d_q}) *block = std::exchange(next, next + std::min(kQueries, window) * kHead);
  }
  static const Real* table(const TensorView& scratch) { return scratch.as<const Real>(); }
};

template <typename Real>
void make_table(CpuDevice& device, const TensorView& scratch, std::int64_t window) {
  const std::array<double, kPairs> turns = frequencies();
  parallel_pieces(device, window, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) angles(turns, t, scratch.as<Real>() + t * kHead);
  });
}

// Queries [begin, begin + rows), against the keys from `key` (the first that any of them sees) to the block's end.
struct QueryBlock {
  std::int64_t begin, rows, key, keys;

  QueryBlock(const std::int32_t* first, std::int64_t begin_, std::int64_t window)
      : begin(begin_), rows(std::min(kQueries, window - begin_)), key(first[begin_]), keys(begin + rows - key) {}
};

// Computes probabilities [rows, keys] and mixed values [rows, 64].
template <typename Real>
void attend(const QueryBlock& b, const std::int32_t* first, const Scratch<Real>& s) {
  matmul_serial<Real>(Transpose::no, Transpose::yes, b.rows, b.keys, kHead, s.q + b.begin * kHead, kHead, s.k + b.key * kHead,
                      kHead, Real(0), s.scores, b.keys);
  for (std::int64_t i = 0; i < b.rows; ++i)
    softmax(s.scores + i * b.keys, first[b.begin + i] - b.key, b.begin + i + 1 - b.key, b.keys);
  matmul_serial<Real>(Transpose::no, Transpose::no, b.rows, kHead, b.keys, s.scores, b.keys, s.v + b.key * kHead, kHead, Real(0),
                      s.mixed, kHead);
}

template <typename Real>
NEUROGEN_CLONES void open_output(const HeadCurrents<const Real>& currents, std::int64_t t, const Real* mixed, Real* out) {
  Real open[kHead];
  currents.read(t, kOpen, open);
#pragma omp simd
  for (std::int64_t j = 0; j < kHead; ++j) out[j] = mixed[j] * sigmoid(open[j]);
}

template <typename Real>
struct NormBackward {
  const Real *d_out, *gain;
  Real inverse, dot;
};

// Backward through the following norm and the gate: writes the gradients of g's current and the mixed values, adds to the gain's.
template <typename Real>
NEUROGEN_CLONES void open_backward(const HeadCurrents<const Real>& currents, std::int64_t t, const NormBackward<Real>& norm,
                                   const Real* mixed, Real* d_mixed, Real* d_gain, const HeadCurrents<Real>& d_currents) {
  Real open[kHead], d_open[kHead];
  currents.read(t, kOpen, open);
#pragma omp simd
  for (std::int64_t j = 0; j < kHead; ++j) {
    const Real s = sigmoid(open[j]), normed = mixed[j] * s * norm.inverse;
    const Real d_y = norm.inverse * (norm.gain[j] * norm.d_out[j] - normed * norm.dot);
    d_gain[j] += norm.d_out[j] * normed;
    d_open[j] = d_y * mixed[j] * s * (Real(1) - s);
    d_mixed[j] = d_y * s;
  }
  d_currents.write(t, kOpen, d_open);
}

// Turns d_scores from the gradient of the probabilities into that of the products q k.
template <typename Real>
NEUROGEN_CLONES void softmax_backward(const Real* probabilities, Real* d_scores, const Real* mixed, const Real* d_mixed,
                                      std::int64_t keys) {
  const Real dot = sum_over<Real>(kHead, [=](std::int64_t j) NEUROGEN_LAMBDA { return mixed[j] * d_mixed[j]; });
#pragma omp simd
  for (std::int64_t j = 0; j < keys; ++j) d_scores[j] = probabilities[j] * (d_scores[j] - dot) * Real(kScale);
}

template <typename Real>
void forward(CpuDevice& device, const AttentionForward& a) {
  make_table<Real>(device, a.scratch, a.window);
  const std::int64_t windows = a.currents[1] / a.window;
  device.parallel(a.currents[0] / 2 * windows, [&](std::int64_t item, int thread) {
    const std::int64_t head = item / windows, token = item % windows * a.window;
    const HeadCurrents<const Real> currents(a.currents, head, token);
    const std::int32_t* const first = a.first.as<const std::int32_t>() + token;
    const Scratch<Real> s(a.scratch, thread, a.window);
    load_panels<Real>(currents, a.window, s.table(a.scratch), s.q, s.k, s.v);
    for (std::int64_t begin = 0; begin < a.window; begin += kQueries) {
      const QueryBlock block(first, begin, a.window);
      attend(block, first, s);
      for (std::int64_t i = 0; i < block.rows; ++i)
        open_output<Real>(currents, begin + i, s.mixed + i * kHead,
                          a.pre_norm.as<Real>() + (token + begin + i) * a.pre_norm.row_stride + head * kHead);
    }
  });
}

template <typename Real>
void backward_window(const AttentionBackward& a, std::int64_t head, std::int64_t token, const Scratch<Real>& s) {
  const HeadCurrents<const Real> currents(a.currents, head, token);
  const HeadCurrents<Real> d_currents(a.d_currents, head, token);
  const std::int32_t* const first = a.first.as<const std::int32_t>() + token;
  const Real* const table = s.table(a.scratch);
  Real d_gain[kHead] = {};
  load_panels<Real>(currents, a.window, table, s.q, s.k, s.v);
  std::fill_n(s.d_k, a.window * kHead, Real(0));
  std::fill_n(s.d_v, a.window * kHead, Real(0));
  for (std::int64_t begin = 0; begin < a.window; begin += kQueries) {
    const QueryBlock b(first, begin, a.window);
    attend(b, first, s);
    for (std::int64_t i = 0; i < b.rows; ++i) {
      const std::int64_t n = token + begin + i;
      const NormBackward<Real> norm{a.d_out.as<const Real>() + n * a.d_out.row_stride + head * kHead,
                                    a.gain.as<const Real>() + head * kHead, a.inverse_rms.as<const Real>()[n],
                                    a.dot.as<const Real>()[n]};
      open_backward<Real>(currents, begin + i, norm, s.mixed + i * kHead, s.d_mixed + i * kHead, d_gain, d_currents);
    }
    const Real *const k = s.k + b.key * kHead, *const v = s.v + b.key * kHead, *const q = s.q + begin * kHead;
    Real *const d_k = s.d_k + b.key * kHead, *const d_v = s.d_v + b.key * kHead;
    matmul_serial<Real>(Transpose::yes, Transpose::no, b.keys, kHead, b.rows, s.scores, b.keys, s.d_mixed, kHead, Real(1), d_v,
                        kHead);
    matmul_serial<Real>(Transpose::no, Transpose::yes, b.rows, b.keys, kHead, s.d_mixed, kHead, v, kHead, Real(0), s.d_scores,
                        b.keys);
    for (std::int64_t i = 0; i < b.rows; ++i)
      softmax_backward<Real>(s.scores + i * b.keys, s.d_scores + i * b.keys, s.mixed + i * kHead, s.d_mixed + i * kHead, b.keys);
    matmul_serial<Real>(Transpose::no, Transpose::no, b.rows, kHead, b.keys, s.d_scores, b.keys, k, kHead, Real(0), s.d_q, kHead);
    matmul_serial<Real>(Transpose::yes, Transpose::no, b.keys, kHead, b.rows, s.d_scores, b.keys, q, kHead, Real(1), d_k, kHead);
    for (std::int64_t i = 0; i < b.rows; ++i)
      turned_backward<Real>(currents, begin + i, kQuery, table + (begin + i) * kHead, s.d_q + i * kHead, d_currents);
  }
  for (std::int64_t t = 0; t < a.window; ++t) {
    turned_backward<Real>(currents, t, kKey, table + t * kHead, s.d_k + t * kHead, d_currents);
    value_backward<Real>(currents, t, s.d_v + t * kHead, d_currents);
  }
  // Adds up each window before the total, so that sections of a batch give the same bits as the whole.
  for (std::int64_t j = 0; j < kHead; ++j) a.d_gain.as<Real>()[head * kHead + j] += d_gain[j];
}

// A running softmax (arXiv:1805.02867) over the positions that the token sees, oldest first.
template <typename Real>
NEUROGEN_CLONES void step_head(const HeadCurrents<const Real>& currents, std::int64_t stream, const Real* cos_sin, Real* keys,
                               Real* values, std::int64_t slot_stride, std::int64_t ring, std::int64_t oldest,
                               std::int64_t position, Real* out) {
  Real q[kHead], mixed[kHead] = {}, maximum = 0, sum = 0;
  turned(currents, stream, kQuery, cos_sin, q);
  turned(currents, stream, kKey, cos_sin, keys + position % ring * slot_stride);
  value(currents, stream, values + position % ring * slot_stride);
  for (std::int64_t p = oldest; p <= position; ++p) {
    const Real *const key = keys + p % ring * slot_stride, *const v = values + p % ring * slot_stride;
    const Real score = sum_over<Real>(kHead, [&](std::int64_t j) NEUROGEN_LAMBDA { return q[j] * key[j]; }) * Real(kScale);
    const Real before = maximum;
    if (p == oldest || score > maximum) maximum = score;
    const Real shrink = p == oldest ? Real(0) : fast_exp(before - maximum), weight = fast_exp(score - maximum);
    sum = sum * shrink + weight;
    for (std::int64_t j = 0; j < kHead; ++j) mixed[j] = mixed[j] * shrink + weight * v[j];
  }
  Real open[kHead];
  currents.read(stream, kOpen, open);
  for (std::int64_t j = 0; j < kHead; ++j) out[j] = mixed[j] / sum * sigmoid(open[j]);
}

void require_heads(const TensorView& currents) {
  require(currents[0] % 2 == 0, "attention: the number of column groups must be even");
  require(currents[2] == 4 * kGroup || currents[2] == 5 * kGroup, "attention: an output must have 4 or 5 neurons");
}

void require_windows(const TensorView& currents, std::int64_t window, const TensorView& scratch) {
  require_heads(currents);
  require(window > 0 && currents[1] % window == 0, "attention: the tokens must be whole windows");
  require(scratch.row_elements() >= attention_scratch(window), "attention: the scratch is too small");
}

}  // namespace

// The table; q, k, v, d_k, d_v; scores and their gradients (64 queries to all keys); three blocks of at most 64 x 64.
std::int64_t attention_scratch(std::int64_t window) {
  const auto blocks = static_cast<Bytes>(3 * std::min(kQueries, window) * kHead);
  return static_cast<std::int64_t>(add(multiply(static_cast<Bytes>(window), 8 * kHead), blocks));
}

void attention_forward(CpuDevice& device, const AttentionForward& a) {
  require_windows(a.currents, a.window, a.scratch);
  require_type("attention_forward", a.currents.dtype, {a.pre_norm, a.scratch});
  dispatch_real(a.currents.dtype, [&](auto zero) { forward<decltype(zero)>(device, a); });
}

void attention_backward(CpuDevice& device, const AttentionBackward& a) {
  require_windows(a.currents, a.window, a.scratch);
  require_type("attention_backward", a.currents.dtype, {a.d_out, a.inverse_rms, a.dot, a.gain, a.d_currents, a.d_gain, a.scratch});
  dispatch_real(a.currents.dtype, [&](auto zero) {
    using Real = decltype(zero);
    make_table<Real>(device, a.scratch, a.window);
    device.parallel(a.currents[0] / 2, [&](std::int64_t head, int thread) {
      const Scratch<Real> scratch(a.scratch, thread, a.window);
      for (std::int64_t token = 0; token < a.currents[1]; token += a.window) backward_window<Real>(a, head, token, scratch);
    });
  });
}

void attention_step(CpuDevice& device, const AttentionStep& a) {
  require_heads(a.currents);
  require_type("attention_step", a.currents.dtype, {a.keys, a.values, a.pre_norm});
  dispatch_real(a.currents.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const std::int64_t streams = a.currents[1], ring = a.keys[1], position = *a.position.as<const std::int64_t>();
    const std::int64_t oldest = std::max({*a.first.as<const std::int64_t>(), position - ring + 1, std::int64_t{0}});
    Real cos_sin[kHead];
    angles(frequencies(), position, cos_sin);
    device.parallel(a.currents[0] / 2 * streams, [&](std::int64_t item, int) {
      const std::int64_t head = item / streams, stream = item % streams;
      const HeadCurrents<const Real> currents(a.currents, head, 0);
      step_head<Real>(currents, stream, cos_sin, a.keys.as<Real>() + stream * a.keys.row_stride + head * kHead,
                      a.values.as<Real>() + stream * a.values.row_stride + head * kHead, a.keys[2], ring, oldest, position,
                      a.pre_norm.as<Real>() + stream * a.pre_norm.row_stride + head * kHead);
    });
  });
}

}  // namespace neurogen

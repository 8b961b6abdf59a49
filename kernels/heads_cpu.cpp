#include "kernels/base/row_parts_cpu.h"
#include "kernels/heads.h"
#include "kernels/rms_norm_cpu.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 16;  // tokens that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES void add(const Real* from, Real* to, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
}

// Turns the pairs (i, i + half) of x by the angles of a row of the table; direction -1 turns back.
template <typename Real>
NEUROGEN_CLONES void turn(Real* x, const Real* table, Real direction, std::int64_t half) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const Real low = x[i], high = x[half + i], c = table[i], s = direction * table[half + i];
    x[i] = low * c - high * s;
    x[half + i] = high * c + low * s;
  }
}

struct Extents {
  std::int64_t width, normed, columns;  // of a head; heads that are normed and turned; H d, where keys begin

  Extents(const HeadCounts& heads, const TensorView& qkv)
      : width(qkv[1] / (heads.queries + 2 * heads.keys)), normed(heads.queries + heads.keys), columns(heads.queries * width) {
    require(width % 2 == 0 && width * (heads.queries + 2 * heads.keys) == qkv[1],
            "heads: a row holds the queries, keys and values of all heads, each of an even width");
  }
};

template <typename Real>
void forward(CpuDevice& device, const HeadsForward& a) {
  const Extents e(a.heads, a.qkv);
  parallel_pieces(device, a.qkv[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t n = begin; n < end; ++n) {
      Real* to = a.qkv.as<Real>() + n * a.qkv.row_stride;
      for (const TensorView& bias : {a.query_bias, a.key_bias, a.value_bias}) {
        if (!bias) continue;
        add(bias.as<const Real>(), to, bias.elements());
        to += bias.elements();
      }
      for (std::int64_t head = 0; head < e.normed; ++head) {
        Real* const x = a.qkv.as<Real>() + n * a.qkv.row_stride + head * e.width;
        if (a.inverse) rms_normalise(x, static_cast<Real>(a.epsilon), a.inverse.as<Real>() + n * e.normed + head, e.width);
        if (a.table) turn(x, a.table.as<const Real>() + n % a.table[0] * e.width, Real(1), e.width / 2);
      }
    }
  });
}

template <typename Real>
void backward(CpuDevice& device, const HeadsBackward& a) {
  const Extents e(a.heads, a.qkv);
  for_row_parts<Real>(device, a.qkv[0], a.sums, [&](std::int64_t begin, std::int64_t end, Real* sums) {
    for (std::int64_t n = begin; n < end; ++n) {
      Real* const d_row = a.d_qkv.as<Real>() + n * a.d_qkv.row_stride;
      for (std::int64_t head = 0; head < e.normed && (a.inverse || a.table); ++head) {
        Real* const d = d_row + head * e.width;
        const Real* const x = a.qkv.as<const Real>() + n * a.qkv.row_stride + head * e.width;
        // Before d is turned back: a turn is linear, and x is turned too.
        if (a.inverse) rms_norm_backward(d, x, a.inverse.as<const Real>()[n * e.normed + head], e.width);
        if (a.table) turn(d, a.table.as<const Real>() + n % a.table[0] * e.width, Real(-1), e.width / 2);
      }
      if (sums) add(d_row, sums, a.qkv[1]);
    }
  });
  finish_row_parts<Real>(device, a.qkv[0], a.sums, 0, a.d_query_bias);
  finish_row_parts<Real>(device, a.qkv[0], a.sums, e.columns, a.d_key_bias);
  finish_row_parts<Real>(device, a.qkv[0], a.sums, e.normed * e.width, a.d_value_bias);
}

}  // namespace

// In float64, since a stream's position may be large.
void rotary_table(CpuDevice& device, const RotaryTable& a) {
  dispatch_real(a.table.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const std::int64_t width = a.table[1], start = a.position ? *a.position.as<const std::int64_t>() : 0;
    parallel_pieces(device, a.table[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) {
        Real* const to = a.table.as<Real>() + t * width;
        for (std::int64_t i = 0; i < width / 2; ++i) {
          const double angle =
              static_cast<double>(start + t) * std::pow(a.theta, -2 * static_cast<double>(i) / static_cast<double>(width));
          to[i] = static_cast<Real>(std::cos(angle));
          to[width / 2 + i] = static_cast<Real>(std::sin(angle));
        }
      }
    });
  });
}

void heads_forward(CpuDevice& device, const HeadsForward& a) {
  require_type("heads_forward", a.qkv.dtype, {a.query_bias, a.key_bias, a.value_bias, a.table, a.inverse});
  dispatch_real(a.qkv.dtype, [&](auto zero) { forward<decltype(zero)>(device, a); });
}

void heads_backward(CpuDevice& device, const HeadsBackward& a) {
  require_type("heads_backward", a.qkv.dtype, {a.table, a.inverse, a.d_qkv, a.d_query_bias, a.d_key_bias, a.d_value_bias, a.sums});
  require(static_cast<bool>(a.sums) == static_cast<bool>(a.d_query_bias), "heads_backward: biases and their sums go together");
  dispatch_real(a.qkv.dtype, [&](auto zero) { backward<decltype(zero)>(device, a); });
}

}  // namespace neurogen

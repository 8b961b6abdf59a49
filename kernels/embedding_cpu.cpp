#include <utility>

#include "kernels/base/dispatch.h"
#include "kernels/embedding.h"
#include "kernels/rms_norm_cpu.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 16;   // tokens or rows that one thread takes at a time
constexpr std::int64_t kColumns = 64;  // columns of d_gain that one thread takes at a time

// x of one token: token[e] + scale pair[e]. Without a pair table both are the token's row, and the scale is 0.
template <typename Real>
struct Row {
  const Real *token, *pair;
  Real scale;
  NEUROGEN_INLINE Real operator()(std::int64_t e) const { return token[e] + scale * pair[e]; }
};

template <typename Real>
Row<Real> row_of(const EmbeddingRows& a, std::int64_t n) {
  const Real* const token = a.weight.as<const Real>() + a.ids.as<const std::int32_t>()[n] * a.weight.row_stride;
  if (!a.pairs) return {token, token, 0};
  return {token, a.pairs.as<const Real>() + a.pair_rows.as<const std::int32_t>()[n] * a.pairs.row_stride, Real(kPairScale)};
}

template <typename Real>
NEUROGEN_CLONES void look_up(Row<Real> x, Real* out, std::int64_t width) {
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) out[e] = x(e);
}

template <typename Real>
NEUROGEN_CLONES void add(const Real* from, Real* to, std::int64_t width) {
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) to[e] += from[e];
}

// Turns d from a token's d_out into its d_x.
template <typename Real>
NEUROGEN_CLONES void through_norm(Row<Real> x, const Real* gain, Real inverse, Real* d, std::int64_t width) {
  const Real dot = sum_over<Real>(width, [=](std::int64_t e) NEUROGEN_LAMBDA { return d[e] * gain[e] * x(e); }) * inverse /
                   static_cast<Real>(width);
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) d[e] = inverse * (gain[e] * d[e] - x(e) * inverse * dot);
}

template <typename Real>
void backward(CpuDevice& device, const EmbeddingBackward& a) {
  const std::int64_t tokens = a.d_out[0], width = a.d_out[1];
  const Real* const inverse = a.inverse_rms.as<const Real>();
  const auto d = [&](std::int64_t n) { return a.d_out.as<Real>() + n * a.d_out.row_stride; };
  parallel_pieces(device, width, kColumns, [&](std::int64_t begin, std::int64_t end, int) {
    Real* const d_gain = a.d_gain.as<Real>();
    std::fill(d_gain + begin, d_gain + end, Real(0));
    for (std::int64_t n = 0; n < tokens; ++n) {
      const Row<Real> x = row_of<Real>(a.rows, n);
      for (std::int64_t e = begin; e < end; ++e) d_gain[e] += d(n)[e] * (x(e) * inverse[n]);
    }
  });
  parallel_pieces(device, tokens, kTokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t n = begin; n < end; ++n)
      through_norm<Real>(row_of<Real>(a.rows, n), a.gain.as<const Real>(), inverse[n], d(n), width);
  });
}

}  // namespace

void pair_rows(CpuDevice&, const PairRows& a) {
  const std::int32_t* const ids = a.ids.as<const std::int32_t>();
  require(a.pairs > 0 && (a.last ? a.ids[0] == 1 : a.window > 0), "pair_rows: a table and whole windows or one token are needed");
  for (std::int64_t n = 0; n < a.ids[0]; ++n) {
    const std::int64_t before = a.last                                               ? a.last.as<std::int32_t>()[0]
                                : a.first.as<const std::int32_t>()[n] < n % a.window ? ids[n - 1]
                                                                                     : 0;
    a.rows.as<std::int32_t>()[n] = static_cast<std::int32_t>((1000003 * std::int64_t{ids[n]} + 998244353 * before) % a.pairs);
  }
  if (a.last) a.last.as<std::int32_t>()[0] = ids[0];
}

void embedding_forward(CpuDevice& device, const EmbeddingForward& a) {
  require_type("embedding_forward", a.out.dtype, {a.rows.weight, a.rows.pairs, a.gain, a.inverse_rms});
  dispatch_real(a.out.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.out[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n) {
        Real* const out = a.out.as<Real>() + n * a.out.row_stride;
        look_up<Real>(row_of<Real>(a.rows, n), out, a.out[1]);
        rms_normalise<Real>(out, a.gain.as<const Real>(), out, a.inverse_rms.as<Real>() + n, a.out[1]);
      }
    });
  });
}

void embedding_backward(CpuDevice& device, const EmbeddingBackward& a) {
  require_type("embedding_backward", a.d_out.dtype, {a.rows.weight, a.rows.pairs, a.gain, a.inverse_rms, a.d_gain});
  dispatch_real(a.d_out.dtype, [&](auto zero) { backward<decltype(zero)>(device, a); });
}

// A counting sort on one thread: some ten microseconds.
void touched_rows(CpuDevice&, const TouchedRows& a) {
  const std::int32_t* const ids = a.ids.as<const std::int32_t>();
  std::int32_t* const histogram = a.histogram.as<std::int32_t>();
  std::int32_t* const row_start = a.row_start.as<std::int32_t>();
  const std::int64_t tokens = a.ids[0];
  std::fill_n(histogram, a.table_rows, 0);
  for (std::int64_t n = 0; n < tokens; ++n) ++histogram[ids[n]];
  std::int32_t rows = 0, position = 0;
  for (std::int64_t r = 0; r < a.table_rows; ++r) {
    if (histogram[r] == 0) continue;
    a.rows.as<std::int32_t>()[rows] = static_cast<std::int32_t>(r);
    row_start[rows++] = position;
    position += std::exchange(histogram[r], position);  // from here on: the place of the row's next token
  }
  row_start[rows] = position;
  for (std::int64_t n = 0; n < tokens; ++n) a.order.as<std::int32_t>()[histogram[ids[n]]++] = static_cast<std::int32_t>(n);
  a.count.as<std::int32_t>()[0] = rows;
}

void row_gradients(CpuDevice& device, const RowGradients& a) {
  require_type("row_gradients", a.d_x.dtype, {a.d_rows});
  require(!a.rows || a.scale == 1, "row_gradients: the gradient of a whole table has no scale");
  const std::int32_t* const row_start = a.row_start.as<const std::int32_t>();
  const std::int64_t width = a.d_x[1];
  dispatch_real(a.d_x.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, *a.count.as<const std::int32_t>(), kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = a.rows ? a.rows.as<const std::int32_t>()[i] : i;
        Real* const d_row = a.d_rows.as<Real>() + row * a.d_rows.row_stride;
        if (!a.rows) std::fill_n(d_row, width, Real(0));
        for (std::int32_t n = row_start[i]; n < row_start[i + 1]; ++n)
          add<Real>(a.d_x.as<const Real>() + a.order.as<const std::int32_t>()[n] * a.d_x.row_stride, d_row, width);
        for (std::int64_t e = 0; e < width; ++e) d_row[e] *= static_cast<Real>(a.scale);
      }
    });
  });
}

}  // namespace neurogen

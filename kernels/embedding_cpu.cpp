#include <utility>

#include "kernels/dispatch.h"
#include "kernels/embedding.h"
#include "kernels/vector_math.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 16;   // tokens or rows that one thread takes at a time
constexpr std::int64_t kColumns = 64;  // columns of d_gain that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES void add(const Real* from, Real* to, std::int64_t width) {
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) to[e] += from[e];
}

// Turns d from the sum of d_out over a row's tokens into the gradient of the row.
template <typename Real>
NEUROGEN_CLONES void through_norm(const Real* row, const Real* gain, Real inverse, Real* d, std::int64_t width) {
  const Real dot = sum_over<Real>(width, [=](std::int64_t e) NEUROGEN_LAMBDA { return d[e] * gain[e] * row[e]; }) * inverse /
                   static_cast<Real>(width);
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) d[e] = inverse * (gain[e] * d[e] - row[e] * inverse * dot);
}

template <typename Real>
void backward(CpuDevice& device, const EmbeddingBackward& a) {
  const std::int64_t width = a.weight[1], touched = a.count.as<const std::int32_t>()[0];
  const std::int32_t* const row_start = a.row_start.as<const std::int32_t>();
  const std::int32_t* const order = a.order.as<const std::int32_t>();
  const Real* const gain = a.gain.as<const Real>();
  const auto row = [&](std::int64_t i) {
    return a.weight.as<const Real>() + a.rows.as<const std::int32_t>()[i] * a.weight.row_stride;
  };
  const auto inverse = [&](std::int64_t i) { return a.inverse_rms.as<const Real>()[order[row_start[i]]]; };
  const auto d_row = [&](std::int64_t i) { return a.d_rows.as<Real>() + i * a.d_rows.row_stride; };

  // All tokens of a row share x^ and rms, and the norm's backward pass is linear: sum first, go back once.
  parallel_pieces(device, touched, kTokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::fill_n(d_row(i), width, Real(0));
      for (std::int32_t n = row_start[i]; n < row_start[i + 1]; ++n)
        add<Real>(a.d_out.as<const Real>() + order[n] * a.d_out.row_stride, d_row(i), width);
    }
  });
  parallel_pieces(device, width, kColumns, [&](std::int64_t begin, std::int64_t end, int) {
    Real* const d_gain = a.d_gain.as<Real>();
    std::fill(d_gain + begin, d_gain + end, Real(0));
    for (std::int64_t i = 0; i < touched; ++i)
      for (std::int64_t e = begin; e < end; ++e) d_gain[e] += d_row(i)[e] * (row(i)[e] * inverse(i));
  });
  parallel_pieces(device, touched, kTokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) through_norm<Real>(row(i), gain, inverse(i), d_row(i), width);
  });
}

}  // namespace

void embedding_forward(CpuDevice& device, const EmbeddingForward& a) {
  require_type("embedding_forward", a.weight.dtype, {a.gain, a.out, a.inverse_rms});
  dispatch_real(a.weight.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.ids[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n)
        rms_normalise<Real>(a.weight.as<const Real>() + a.ids.as<const std::int32_t>()[n] * a.weight.row_stride,
                            a.gain.as<const Real>(), a.out.as<Real>() + n * a.out.row_stride, a.inverse_rms.as<Real>() + n,
                            a.weight[1]);
    });
  });
}

// A counting sort on one thread: some ten microseconds.
void embedding_rows(CpuDevice&, const EmbeddingRows& a) {
  const std::int32_t* const ids = a.ids.as<const std::int32_t>();
  std::int32_t* const histogram = a.histogram.as<std::int32_t>();
  std::int32_t* const row_start = a.row_start.as<std::int32_t>();
  const std::int64_t tokens = a.ids[0], vocabulary = a.vocabulary;
  std::fill_n(histogram, vocabulary, 0);
  for (std::int64_t n = 0; n < tokens; ++n) ++histogram[ids[n]];
  std::int32_t rows = 0, position = 0;
  for (std::int64_t v = 0; v < vocabulary; ++v) {
    if (histogram[v] == 0) continue;
    a.rows.as<std::int32_t>()[rows] = static_cast<std::int32_t>(v);
    row_start[rows++] = position;
    position += std::exchange(histogram[v], position);  // from here on: the place of the id's next token
  }
  row_start[rows] = position;
  for (std::int64_t n = 0; n < tokens; ++n) a.order.as<std::int32_t>()[histogram[ids[n]]++] = static_cast<std::int32_t>(n);
  a.count.as<std::int32_t>()[0] = rows;
}

void embedding_backward(CpuDevice& device, const EmbeddingBackward& a) {
  require_type("embedding_backward", a.d_out.dtype, {a.weight, a.gain, a.inverse_rms, a.d_rows, a.d_gain});
  dispatch_real(a.d_out.dtype, [&](auto zero) { backward<decltype(zero)>(device, a); });
}

}  // namespace neurogen

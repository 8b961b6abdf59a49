#include "kernels/base/dispatch.h"
#include "kernels/base/half.h"
#include "kernels/rms_norm_cpu.h"
#include "kernels/token_embedding.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 16;  // tokens that one thread takes at a time

double number(double x) { return x; }  // widen() would round it
template <typename Table>
NEUROGEN_INLINE float number(Table x) {
  return widen(x);
}

template <typename Real, typename Table>
NEUROGEN_CLONES void look_up(const Table* token, const Table* position, Real* out, std::int64_t width) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) out[i] = number(token[i]);
  if (!position) return;
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) out[i] += number(position[i]);
}

template <typename Table>
const Table* row_of(const TensorView& table, const TensorView& rows, std::int64_t n) {
  return table ? table.as<const Table>() + rows.as<const std::int32_t>()[n] * table.row_stride : nullptr;
}

// Calls body(Table{}) with the element type of tables beside `Real`.
template <typename Real, typename Body>
void dispatch_table(DType type, Body&& body) {
  if (type == DType::bf16) body(Bf16{});
  else if (type == DType::f16) body(F16{});
  else body(Real{});
}

}  // namespace

void token_places(CpuDevice&, const TokenPlaces& a) {
  std::int32_t* const places = a.places.as<std::int32_t>();
  if (a.position) {
    const std::int64_t* const position = a.position.as<const std::int64_t>();
    std::fill_n(places, a.places[0], static_cast<std::int32_t>(std::min(position[0] - position[1], a.most)));
    return;
  }
  for (std::int64_t n = 0; n < a.places[0]; ++n)
    places[n] = static_cast<std::int32_t>(n % a.window) - a.first.as<const std::int32_t>()[n];
}

void token_embedding_forward(CpuDevice& device, const TokenEmbeddingForward& a) {
  const bool narrow = a.weight.dtype == DType::bf16 || a.weight.dtype == DType::f16;
  require_type("token_embedding_forward", a.out.dtype, {narrow ? TensorView{} : a.weight, a.inverse});
  require_type("token_embedding_forward", a.weight.dtype, {a.positions});
  dispatch_real(a.out.dtype, [&](auto zero) {
    using Real = decltype(zero);
    dispatch_table<Real>(a.weight.dtype, [&](auto element) {
      using Table = decltype(element);
      parallel_pieces(device, a.out[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t n = begin; n < end; ++n) {
          Real* const out = a.out.as<Real>() + n * a.out.row_stride;
          look_up(row_of<Table>(a.weight, a.ids, n), row_of<Table>(a.positions, a.places, n), out, a.out[1]);
          if (a.inverse) rms_normalise(out, static_cast<Real>(a.epsilon), a.inverse.as<Real>() + n, a.out[1]);
        }
      });
    });
  });
}

void token_embedding_backward(CpuDevice& device, const TokenEmbeddingBackward& a) {
  require_type("token_embedding_backward", a.out.dtype, {a.inverse, a.d_out});
  dispatch_real(a.out.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.out[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n)
        rms_norm_backward(a.d_out.as<Real>() + n * a.d_out.row_stride, a.out.as<const Real>() + n * a.out.row_stride,
                          a.inverse.as<const Real>()[n], a.out[1]);
    });
  });
}

}  // namespace neurogen

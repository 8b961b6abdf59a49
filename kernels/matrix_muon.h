// Muon for whole matrices of any size (Jordan et al. 2024, kellerjordan.github.io/posts/muon); the brain's many small ones have
// muon.h, of which this has the momentum, the polynomial and their numbers. For a matrix [out, in]:
//   g = gradient * clip    m = 0.95 m + 0.05 g    u = 0.05 g + 0.95 m    p = p - lr sqrt(max(1, out / in)) orthogonal(u)
//   x = u / (|u| + 1e-7); five times: a = x x^T, x = (3.4445 - 4.7750 a + 2.0315 a a) x
// If out > in it is a = x^T x and x = x (3.4445 ...): the same function, by the smaller square.
//
// Matrices of one shape go through the steps together, as batches of products, so that small ones fill a GPU and threads. Each is
// computed by itself: the bits do not depend on its company.
#pragma once
#include "kernels/muon.h"

namespace neurogen {

// The rate is control.synapse_learning_rate.
struct MatrixMuon {
  TensorView control;  // StepControl
  TensorView norm;     // [2]: norm, clip factor (gradient_norm.h)
  // C matrices: gradient, value, momentum and low are [M, N]; decay is 0.
  Several<MuonUpdate> updates;
  // Scratch: on a GPU in the type of products, else in that of the values; S = min(M, N).
  TensorView x, next;       // [C, M, N]
  TensorView gram, square;  // [C, S, S]
  TensorView sums;          // [C, matrix_muon_sums(M N)] f64
};

inline constexpr std::int64_t kMuonChunk = 16384;  // elements of a partial sum of squares
constexpr std::int64_t matrix_muon_sums(std::int64_t elements) { return (elements + kMuonChunk - 1) / kMuonChunk; }

void matrix_muon(CpuDevice& device, const MatrixMuon& arguments);
void matrix_muon(CudaDevice& device, const MatrixMuon& arguments);

}  // namespace neurogen

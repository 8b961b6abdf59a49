// Muon for a module's synapses (Jordan et al. 2024, kellerjordan.github.io/posts/muon), momentum 0.95, decoupled weight decay. Each
// role of each column group is one matrix [F, 32]:
//   g = gradient * clip    m = 0.95 m + 0.05 g    u = 0.05 g + 0.95 m    p = p (1 - lr decay) - lr orthogonal(u)
// orthogonal(u) brings all singular values near 1, by five Newton-Schulz steps:
//   x = u / (|u| + 1e-7), |u| the Frobenius norm; five times: a = x^T x, x = x (3.4445 - 4.7750 a + 2.0315 a a)
// Products from the right need no transpose, for every F: x q(x^T x) = q(x x^T) x for every polynomial q.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/several.h"
#include "kernels/base/step_control.h"

namespace neurogen {

inline constexpr double kMuonMomentum = 0.95, kMuonEpsilon = 1e-7;
inline constexpr double kMuonLinear = 3.4445, kMuonCubic = -4.7750, kMuonQuintic = 2.0315;  // coefficients of x, x a, x a a
inline constexpr int kMuonSteps = 5;
inline constexpr std::int64_t kMuonColumns = 32;     // of a matrix
inline constexpr std::int64_t kMuonMostFanIn = 256;  // F that a GPU's shared memory has room for; a CPU takes any

struct MuonUpdate {
  TensorView gradient;         // [G, F, 32R]
  TensorView value, momentum;  // [G, F, 32R] updated
  double decay = 0;
  TensorView low{};  // [G, F, 32R] in 16 bits, the same type in all updates: a copy of the value for products; may be empty
};

// The rate is control.synapse_learning_rate.
struct Muon {
  TensorView control;  // StepControl
  TensorView norm;     // [2]: norm, clip factor (gradient_norm.h)
  Several<MuonUpdate> updates;
  TensorView scratch;  // [threads, muon_scratch(largest F)] of the values' type; a GPU needs none
};

std::int64_t muon_scratch(std::int64_t fan_in);  // elements

void muon(CpuDevice& device, const Muon& arguments);
void muon(CudaDevice& device, const Muon& arguments);

}  // namespace neurogen

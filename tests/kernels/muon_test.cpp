#include "kernels/muon.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/orthogonal.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

constexpr double kRate = 0.03125, kDecay = 0.05, kClip = 0.25;

struct Synapses {
  std::int64_t groups, fan_in, roles;
  Tensor<float> gradient, value, momentum;

  Synapses(std::int64_t groups_, std::int64_t fan_in_, std::int64_t roles_, unsigned seed)
      : groups(groups_),
        fan_in(fan_in_),
        roles(roles_),
        gradient(Tensor<float>::noise({groups, fan_in, 32 * roles}, seed, 0.1)),
        value(Tensor<float>::noise(gradient.shape, seed + 1, 0.2)),
        momentum(Tensor<float>::noise(gradient.shape, seed + 2, 0.01)) {}

  MuonUpdate update(double decay = kDecay) { return {gradient.view(), value.view(), momentum.view(), decay}; }
  Matrix matrix(const Tensor<float>& x, std::int64_t g, std::int64_t r) const {
    Matrix out(static_cast<std::size_t>(fan_in), std::vector<double>(32));
    for (std::int64_t f = 0; f < fan_in; ++f)
      for (std::int64_t j = 0; j < 32; ++j) out[f][j] = static_cast<double>(x[((g * fan_in + f) * roles + r) * 32 + j]);
    return out;
  }
};

void run(int threads, std::initializer_list<MuonUpdate> updates, StepControl control, double clip = kClip) {
  std::int64_t fan_in = 0;
  for (const MuonUpdate& u : updates) fan_in = std::max(fan_in, u.value[1]);
  Tensor<float> norm({2}, static_cast<float>(clip));
  auto scratch = Tensor<float>::poisoned({threads, muon_scratch(fan_in)});
  muon(device_of(threads), {view_of(control), norm.view(), updates, scratch.view()});
}
constexpr StepControl kStep{.step = 7, .learning_rate = 99, .synapse_learning_rate = kRate};

// The eigenvalues of o^T o lie between 0.6^2 and 1.3^2 (the five steps end between 0.68 and 1.14 unless a value begins very small):
// their sum, and the sum of their squares, is that of 32 such numbers.
TEST(Muon, BringsSingularValuesNearOne) {
  Synapses s(3, 96, 4, 5);
  s.value = Tensor<float>(s.value.shape, 0), s.momentum = s.value;
  run(1, {s.update(0)}, {.synapse_learning_rate = 1});
  for (std::int64_t g = 0; g < 3; ++g)
    for (std::int64_t r = 0; r < 4; ++r) {
      const Matrix o = s.matrix(s.value, g, r), square = product(transposed(o), o), fourth = product(square, square);
      double sum = 0, squares = 0;
      for (std::size_t i = 0; i < 32; ++i) sum += square[i][i], squares += fourth[i][i];
      EXPECT_GT(sum / 32, 0.6);
      EXPECT_LT(sum / 32, 1.2);
      EXPECT_LT(squares / 32 - sum / 32 * (sum / 32), 0.1) << "the eigenvalues' variance";
    }
}

TEST(Muon, RefusesMixedTypesOtherShapesAndSmallScratch) {
  Synapses s(1, 32, 2, 1);
  Tensor<float> norm({2}, 1), scratch({1, muon_scratch(32)}, 0), small({1, muon_scratch(32) - 1}, 0), flat({32, 64}, 0);
  Tensor<double> wide({1, muon_scratch(32)}, 0);
  StepControl control;
  const auto refuses = [&](const MuonUpdate& u, Tensor<float>& memory) {
    EXPECT_THROW(muon(device_of(1), {view_of(control), norm.view(), {u}, memory.view()}), Error);
  };
  refuses(s.update(), small);
  refuses({flat.view(), flat.view(), flat.view()}, scratch);
  EXPECT_THROW(muon(device_of(1), {view_of(control), norm.view(), {s.update()}, wide.view()}), Error);
}

}  // namespace
}  // namespace neurogen

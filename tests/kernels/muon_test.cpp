#include "kernels/muon.h"

#include "arena/error.h"
#include "kernels/cast.h"
#include "tests/kernels/finite_difference.h"
#include "tests/kernels/orthogonal.h"

namespace neurogen {
namespace {

constexpr double kRate = 0.03125, kDecay = 0.05, kClip = 0.25;

TensorView view_of(StepControl& control) { return make_view(&control, DType::u8, {sizeof control}); }

template <typename Real>
struct Synapses {
  std::int64_t groups, fan_in, roles;
  Tensor<Real> gradient, value, momentum;
  Tensor<float> low;

  Synapses(std::int64_t groups_, std::int64_t fan_in_, std::int64_t roles_, unsigned seed)
      : groups(groups_),
        fan_in(fan_in_),
        roles(roles_),
        gradient(Tensor<Real>::noise({groups, fan_in, 32 * roles}, seed, 0.1)),
        value(Tensor<Real>::noise(gradient.shape, seed + 1, 0.2)),
        momentum(Tensor<Real>::noise(gradient.shape, seed + 2, 0.01)) {}

  MuonUpdate update(double decay = kDecay) { return {gradient.view(), value.view(), momentum.view(), decay}; }
  Matrix matrix(const Tensor<Real>& x, std::int64_t g, std::int64_t r) const {
    Matrix out(static_cast<std::size_t>(fan_in), std::vector<double>(32));
    for (std::int64_t f = 0; f < fan_in; ++f)
      for (std::int64_t j = 0; j < 32; ++j) out[f][j] = static_cast<double>(x[((g * fan_in + f) * roles + r) * 32 + j]);
    return out;
  }
};

template <typename Real>
void run(int threads, std::initializer_list<MuonUpdate> updates, StepControl control, double clip = kClip) {
  std::int64_t fan_in = 0;
  for (const MuonUpdate& u : updates) fan_in = std::max(fan_in, u.value[1]);
  Tensor<Real> norm({2}, static_cast<Real>(clip));
  auto scratch = Tensor<Real>::poisoned({threads, muon_scratch(fan_in)});
  muon(device_of(threads), {view_of(control), norm.view(), updates, scratch.view()});
}
constexpr StepControl kStep{.step = 7, .learning_rate = 99, .synapse_learning_rate = kRate};

template <typename Real>
class Muon_ : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(Muon_, Reals);

TYPED_TEST(Muon_, FollowsTheFormulaForEveryShape) {
  using Real = TypeParam;
  std::int64_t roles = 2;
  for (const std::int64_t fan_in : {16, 32, 48, 64, 96, 128, 160, 272}) {
    const Synapses<Real> before(2, fan_in, roles, static_cast<unsigned>(fan_in));
    Synapses<Real> after = before;
    run<Real>(2, {after.update()}, kStep);
    Tensor<double> value(before.value.shape, 0), momentum = value, actual = value;
    for (std::int64_t g = 0; g < 2; ++g)
      for (std::int64_t r = 0; r < roles; ++r) {
        Matrix m = before.matrix(before.momentum, g, r), u = before.matrix(before.gradient, g, r);
        for (std::size_t f = 0; f < u.size(); ++f)
          for (std::size_t j = 0; j < 32; ++j) {
            const double gradient = kClip * u[f][j];
            m[f][j] = 0.95 * m[f][j] + 0.05 * gradient;
            u[f][j] = 0.05 * gradient + 0.95 * m[f][j];
          }
        const Matrix o = orthogonal(u), p = before.matrix(before.value, g, r);
        for (std::int64_t f = 0; f < fan_in; ++f)
          for (std::int64_t j = 0; j < 32; ++j) {
            const std::int64_t at = ((g * fan_in + f) * roles + r) * 32 + j;
            momentum[at] = m[f][j];
            value[at] = p[f][j] * (1 - kRate * kDecay) - kRate * o[f][j];
          }
      }
    expect_close(after.momentum, momentum, sizeof(Real) == 8 ? 1e-12 : 1e-6, "momentum");
    expect_close(after.value, value, sizeof(Real) == 8 ? 1e-12 : 1e-6, "value");
    roles = roles == 5 ? 2 : roles + 1;
  }
}

// The eigenvalues of o^T o lie between 0.6^2 and 1.3^2 (the five steps end between 0.68 and 1.14 unless a value begins very small):
// their sum, and the sum of their squares, is that of 32 such numbers.
TYPED_TEST(Muon_, BringsSingularValuesNearOne) {
  using Real = TypeParam;
  Synapses<Real> s(3, 96, 4, 5);
  s.value = Tensor<Real>(s.value.shape, 0), s.momentum = s.value;
  run<Real>(1, {s.update(0)}, {.synapse_learning_rate = 1});
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

TYPED_TEST(Muon_, GivesEqualBitsOnAnyNumberOfThreadsAndInAnyCompany) {
  using Real = TypeParam;
  const Synapses<Real> start(5, 48, 3, 1), other(2, 128, 5, 2);
  Synapses<Real> alone = start;
  run<Real>(1, {alone.update()}, kStep);
  for (const int threads : {1, 2, 3}) {
    Synapses<Real> s = start, beside = other;
    run<Real>(threads, {beside.update(), s.update()}, kStep);
    expect_same_bits(s.value, alone.value, "value");
    expect_same_bits(s.momentum, alone.momentum, "momentum");
  }
}

TYPED_TEST(Muon_, AGradientOfZeroOnlyDecays) {
  using Real = TypeParam;
  Synapses<Real> s(1, 32, 2, 1);
  s.gradient = s.momentum = Tensor<Real>(s.value.shape, 0);
  Tensor<Real> expected = s.value;
  for (Real& x : expected.data) x *= static_cast<Real>(1 - kRate * kDecay);
  run<Real>(1, {s.update()}, kStep);
  expect_same_bits(s.value, expected, "value");
}

TEST(Muon, CopiesItsValuesIn16Bits) {
  Synapses<float> s(2, 64, 2, 1);
  std::vector<std::uint16_t> low(s.value.data.size()), expected = low;
  const auto view = [&](std::vector<std::uint16_t>& x) { return make_view(x.data(), DType::bf16, s.value.shape); };
  MuonUpdate update = s.update();
  update.low = view(low);
  run<float>(2, {update}, kStep);
  cast(device_of(1), s.value.view(), view(expected));
  EXPECT_EQ(low, expected);
}

TEST(Muon, ALossScaleChangesNoBitAndAnOverflowSkipsTheUpdate) {
  const Synapses<float> start(2, 32, 2, 1);
  Synapses<float> plain = start, scaled = start, skipped = start;
  for (float& x : scaled.gradient.data) x *= 4096;
  StepControl control = kStep;
  run<float>(1, {plain.update()}, control);
  control.loss_scale = 4096;
  run<float>(1, {scaled.update()}, control, kClip / 4096);
  expect_same_bits(scaled.value, plain.value, "value");
  expect_same_bits(scaled.momentum, plain.momentum, "momentum");
  control.overflow = 2;
  run<float>(1, {skipped.update()}, control);
  expect_same_bits(skipped.value, start.value, "skipped value");
  expect_same_bits(skipped.momentum, start.momentum, "skipped momentum");
}

TEST(Muon, RefusesMixedTypesOtherShapesAndSmallScratch) {
  Synapses<float> s(1, 32, 2, 1);
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

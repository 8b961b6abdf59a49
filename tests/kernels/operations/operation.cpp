#include "tests/kernels/operations/operation.h"

#include "kernels/base/half.h"

namespace neurogen {
namespace {

std::vector<const Operation*>& list() {
  static std::vector<const Operation*> all;
  return all;
}

constexpr std::size_t kDraws = 1 << 20;  // numbers that a tensor draws before it repeats them

}  // namespace

DType type_of(Stored stored, DType tested) {
  const bool reference = tested == DType::f64;
  switch (stored) {
    case Stored::tested:
      return tested;
    case Stored::single:
      return reference ? DType::f64 : DType::f32;
    case Stored::gradient:
      return reference || tested == DType::bf16 ? tested : DType::f32;
    case Stored::f32:
      return DType::f32;
    case Stored::f64:
      return DType::f64;
    case Stored::bf16:
      return DType::bf16;
    case Stored::f16:
      return DType::f16;
    case Stored::i32:
      return DType::i32;
    case Stored::i64:
      return DType::i64;
    case Stored::u8:
      return DType::u8;
  }
  return tested;
}

Fill noise(double scale, double mean) {
  return [=](Tensor<double>& x, Random& random) {
    std::normal_distribution<double> normal(mean, scale);
    for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = i < kDraws ? normal(random) : x.data[i - kDraws];
  };
}

Fill positive(double scale) {
  return [=](Tensor<double>& x, Random& random) {
    noise(scale)(x, random);
    for (double& value : x.data) value = std::abs(value);
  };
}

Fill constant(double value) {
  return [=](Tensor<double>& x, Random&) { std::fill(x.data.begin(), x.data.end(), value); };
}

Fill below(std::int64_t n) {
  return [=](Tensor<double>& x, Random& random) {
    for (double& value : x.data) value = static_cast<double>(random() % static_cast<std::uint64_t>(n));
  };
}

Fill values(std::vector<double> all) {
  return [all = std::move(all)](Tensor<double>& x, Random&) { std::copy(all.begin(), all.end(), x.data.begin()); };
}

Fill documents_in(std::int64_t window) {
  return [=](Tensor<double>& first, Random& random) {
    for (std::int64_t n = 0; n < first.shape[0]; ++n) {
      const bool begins = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(window)) < 3;
      first[n] = n % window == 0 ? 0 : begins ? static_cast<double>(n % window) : first[n - 1];
    }
  };
}

double rounded(double value, DType type) {
  const auto through = [&](auto narrow_value) {
    narrow(static_cast<float>(value), narrow_value);
    return static_cast<double>(widen(narrow_value));
  };
  if (type == DType::f32) return through(float{});
  if (type == DType::bf16) return through(Bf16{});
  if (type == DType::f16) return through(F16{});
  return value;
}

StepControl control_of(const Tensor<double>& bytes) {
  std::array<std::uint8_t, sizeof(StepControl)> raw;
  std::copy(bytes.data.begin(), bytes.data.end(), raw.begin());
  return std::bit_cast<StepControl>(raw);
}

void store(const StepControl& control, Tensor<double>& bytes) {
  const auto raw = std::bit_cast<std::array<std::uint8_t, sizeof(StepControl)>>(control);
  std::copy(raw.begin(), raw.end(), bytes.data.begin());
}

Id Case::control(const StepControl& value, Use use) {
  return updated(
      "control", {sizeof(StepControl)}, [=](Tensor<double>& bytes, Random&) { store(value, bytes); }, Stored::u8, use);
}

Id Case::add(Operand operand) {
  if (size_of(DType::u8, operand.shape) == 0) return {};
  operands.push_back(std::move(operand));
  return {operands.size() - 1};
}

Id Case::find(const std::string& operand) const {
  const auto found = std::find_if(operands.begin(), operands.end(), [&](const Operand& one) { return one.name == operand; });
  return found == operands.end() ? Id{} : Id{static_cast<std::size_t>(found - operands.begin())};
}

void Case::gradient(Id of, Id is) {
  if (!of) return;
  const bool added = (*this)[is].use == Use::updated;
  gradient(of, [=](const Values& before, const Values& after) {
    Tensor<double> result = after[is];
    for (std::size_t i = 0; added && i < result.data.size(); ++i) result.data[i] -= before[is].data[i];
    return result;
  });
}

Tensor<double> Case::initial(Id id, DType tested) const {
  const Operand& operand = operands[id.index];
  if (!operand.fill) return {};
  Tensor<double> x(operand.shape, 0);
  Random random(static_cast<unsigned>(id.index + 1));
  operand.fill(x, random);
  const DType type = type_of(operand.stored, tested);
  for (double& value : x.data) value = rounded(type == DType::f64 ? rounded(value, DType::f32) : value, type);
  return x;
}

Case Operation::at(const Shape& shape) const {
  Case result;
  result.name = name + " " + to_string(shape);
  body(result, shape);
  return result;
}

const std::vector<const Operation*>& operations() {
  std::sort(list().begin(), list().end(), [](const Operation* a, const Operation* b) { return a->name < b->name; });
  return list();
}

Listed::Listed(Operation entered) : operation(std::move(entered)) { list().push_back(&operation); }

}  // namespace neurogen

#include "tests/kernels/operations/checks.h"

#include "kernels/base/half.h"

namespace neurogen {
namespace {

constexpr double kWorst = 12;                          // an entry's error beside that of the norm
constexpr std::int64_t kMostToDifferentiate = 40'000;  // elements of a case's operands: more would take long

// A few units in the last place, as a share.
double precision(DType type) {
  switch (type) {
    case DType::f64:
      return 0x1p-52;
    case DType::f32:
      return 0x1p-23;
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    default:
      return 0;  // whole numbers are equal
  }
}

double size_of_values(const Tensor<double>& x) {
  double squares = 0;
  for (const double value : x.data) squares += std::isfinite(value) ? value * value : 0;
  return std::sqrt(squares);
}

// A sentence if x is not y. `share` of the amount by which it changed and `last` of its size may be missing; `one`: and one, of one
// element in a hundred.
std::string difference(const Tensor<double>& x, const Tensor<double>& y, const Tensor<double>& amount, double share, double last,
                       bool one) {
  const double amounts = size_of_values(amount), sizes = size_of_values(y), count = std::sqrt(static_cast<double>(y.data.size()));
  constexpr double kAny = 1e-300;  // instead of 0, by which nothing can be divided
  double squares = 0, worst = 0;
  std::size_t where = 0;
  for (std::size_t e = 0; e < y.data.size(); ++e) {
    if (x.data[e] == y.data[e] || (std::isnan(x.data[e]) && std::isnan(y.data[e]))) continue;
    const double error = std::abs(x.data[e] - y.data[e]);
    squares += error * error;
    const double allowed = share * (amounts / count + std::abs(amount.data[e])) + last * (sizes / count + std::abs(y.data[e]));
    const double times = error / (kWorst * allowed + (one ? 1 : kAny));
    if (!(times <= worst)) worst = std::isnan(times) ? INFINITY : times, where = e;
  }
  const double norm = std::sqrt(squares) / (share * amounts + last * sizes + (one ? 0.1 * count + 1 : kAny));
  if (norm <= 1 && worst <= 1) return {};
  return fmt::format("element {} is {:.9g} instead of {:.9g}, {:.3g} times as far as may be; the norm of all errors {:.3g} times",
                     where, x.data[where], y.data[where], worst, norm);
}

// Calls body(zero) with a number of the type.
template <typename Body>
void dispatch(DType type, Body&& body) {
  switch (type) {
    case DType::f32:
      return body(float{});
    case DType::f64:
      return body(double{});
    case DType::bf16:
      return body(Bf16{});
    case DType::f16:
      return body(F16{});
    case DType::i32:
      return body(std::int32_t{});
    case DType::i64:
      return body(std::int64_t{});
    default:
      return body(std::uint8_t{});
  }
}

}  // namespace

void load(const Layout& layout, const std::vector<std::byte>& from, Tensor<double>& x) {
  const std::byte* const begin = from.data() + layout.fence;
  if (layout.plain()) std::copy_n(reinterpret_cast<const double*>(begin), x.data.size(), x.data.begin());
  else
    dispatch(layout.type, [&](auto value) {
      for (std::int64_t e = 0; e < layout.elements(); ++e) {
        std::memcpy(&value, &from[static_cast<std::size_t>(layout.at(e))], sizeof value);
        if constexpr (std::is_arithmetic_v<decltype(value)>) x[e] = static_cast<double>(value);
        else x[e] = static_cast<double>(widen(value));
      }
    });
}

void save(const Layout& layout, const Tensor<double>& x, std::vector<std::byte>& to) {
  if (layout.plain()) std::copy(x.data.begin(), x.data.end(), reinterpret_cast<double*>(to.data() + layout.fence));
  else
    dispatch(layout.type, [&](auto value) {
      for (std::int64_t e = 0; e < static_cast<std::int64_t>(x.data.size()); ++e) {
        if constexpr (std::is_arithmetic_v<decltype(value)>) value = static_cast<decltype(value)>(x[e]);
        else narrow(static_cast<float>(x[e]), value);
        std::memcpy(&to[static_cast<std::size_t>(layout.at(e))], &value, sizeof value);
      }
    });
}

void compare(Faults& faults, const Case& c, DType tested, const std::string& what, const Values& actual, const Values& expected,
             const Values& before) {
  for (std::size_t i = 0; i < c.operands.size(); ++i) {
    const Operand& operand = c.operands[i];
    if (operand.use == Use::input || operand.use == Use::scratch) continue;
    const Id id{i};
    const DType type = type_of(operand.stored, tested);
    Tensor<double> value = expected[id];
    for (std::size_t e = 0; operand.copy_of && e < value.data.size(); ++e)
      value.data[e] = rounded(actual[operand.copy_of].data[e], type);
    Tensor<double> amount = value;
    for (std::size_t e = 0; operand.use == Use::updated && e < value.data.size(); ++e) amount.data[e] -= before[id].data[e];
    const bool exact = operand.exact || operand.copy_of;
    // float64 is as much more exact as it is more precise.
    const double share = c.tolerance * (tested == DType::f64 ? 0x1p-24 : 1) + operand.roundings * precision(tested);
    const bool whole = precision(type) == 0;
    const std::string found = difference(actual[id], value, amount, exact || whole ? 0 : share, exact ? 0 : precision(type),
                                         operand.drawn && tested != DType::f64);
    if (!found.empty()) faults.push_back(fmt::format("{} in {}: {}: {}", what, name_of(tested), operand.name, found));
  }
}

Faults check_formula(const Case& c) {
  Faults faults;
  if (!c.formula) return faults;
  Instance<CpuDevice> instance(device_of(2), c, DType::f64);
  const Values before = instance.values();
  Values expected = before;
  c.formula(expected);
  instance.run();
  const Values actual = instance.values();
  Values given = actual;
  for (const Id id : c.formula_gives) given[id] = expected[id];
  compare(faults, c, DType::f64, "formula", actual, c.formula_gives.empty() ? expected : given, before);
  return faults;
}

Faults check_gradients(const Case& c, bool* checked) {
  Faults faults;
  std::int64_t elements = 0;
  for (const Operand& operand : c.operands)
    if (operand.use != Use::scratch) elements += static_cast<std::int64_t>(size_of(DType::u8, operand.shape));
  if (c.gradients.empty() || elements > kMostToDifferentiate) return faults;
  if (checked) *checked = true;
  Instance<CpuDevice> instance(device_of(1), c, DType::f64);
  const Values before = instance.values();
  const Values start = instance.values(false);
  instance.run();
  const Values after = instance.values(false);
  for (const auto& one : c.gradients) {
    const Id of = one.first;
    const Tensor<double> gradient = one.second(before, after);
    Values moved = start;
    Tensor<double>& x = moved[of] = before[of];
    constexpr double kStep = 1e-4;
    const double scale = size_of_values(gradient) / std::sqrt(static_cast<double>(gradient.data.size()));
    double worst = scale > 0 && gradient.shape == x.shape ? 0 : INFINITY;
    for (std::size_t i = 0, stride = std::max<std::size_t>(1, x.data.size() / 37); worst < 1 && i < x.data.size(); i += stride) {
      const auto loss_at = [&](double step) {
        x.data[i] = before[of].data[i] + step;
        instance.set(moved);
        instance.run(c.loss_steps);
        return c.loss(before, instance.values(false));
      };
      // Fourth order permits steps large enough to keep rounding out of the result.
      const double difference =
          (8 * (loss_at(kStep) - loss_at(-kStep)) - (loss_at(2 * kStep) - loss_at(-2 * kStep))) / (12 * kStep);
      x.data[i] = before[of].data[i];
      const double error = std::abs(difference - gradient.data[i]) / (std::abs(gradient.data[i]) + scale);
      worst = error <= worst ? worst : error;
    }
    instance.set(moved);
    if (!(worst < 1e-6))
      faults.push_back(
          fmt::format("the gradient of {} differs from the differences of the loss by {:.3g}", c.operands[of.index].name, worst));
  }
  return faults;
}

}  // namespace neurogen

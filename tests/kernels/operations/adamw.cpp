#include "kernels/adamw.h"

#include "kernels/base/eight_bits.h"
#include "kernels/base/random.h"
#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [step, earlier skips, overflow, lengths ...]: every third has decay, every second a copy in 16 bits. A GPU takes multiples of 4.
void adamw_case(Case& c, const Shape& s) {
  StepControl now{.step = s[0], .learning_rate = 4e-3f, .table_learning_rate = 99};
  now.trunk_skips = static_cast<std::int32_t>(s[1]), now.overflow = static_cast<std::int32_t>(s[2]);
  const auto control = c.control(now), norm = c.input("norm", {2}, constant(0.25), Stored::single);
  struct One {
    Id gradient, parameter, m, v, low;
    double decay;
  };
  std::vector<One> all;
  for (std::size_t i = 0; i + 3 < s.size(); ++i) {
    const Shape shape{s[i + 3]};
    all.push_back({c.input("gradient", shape, noise(0.1), Stored::single),
                   c.updated("parameter", shape, noise(0.5), Stored::single), c.updated("m", shape, noise(0.1), Stored::single),
                   c.updated("v", shape, positive(0.1), Stored::single),
                   i % 2 == 0 && now.overflow == 0 ? c.output("low", shape, Stored::bf16) : Id{}, i % 3 == 0 ? 0.05 : 0});
  }
  for (const One& u : all)
    if (u.low) c[u.low].copy_of = u.parameter;
  c.tolerance = 5e-5;  // of a change beside a parameter
  c.run("adamw", [=](auto& device, const Operands& at) {
    AdamW arguments{at[control], at[norm], {}};
    for (const One& u : all) arguments.updates.add({at[u.gradient], at[u.parameter], at[u.m], at[u.v], u.decay, at[u.low]});
    adamw(device, arguments);
  });
  c.formula = [=](Values& x) {
    const double n = static_cast<double>(s[0] + 1 - s[1]), rate = static_cast<double>(now.learning_rate);
    for (const One& u : all)
      for (std::int64_t i = 0; now.overflow == 0 && i < x[u.m].shape[0]; ++i) {
        const double g = 0.25 * x[u.gradient][i];
        double &p = x[u.parameter][i], &m = x[u.m][i], &v = x[u.v][i];
        m = 0.9 * m + 0.1 * g;
        v = 0.98 * v + 0.02 * g * g;
        p -= rate * (u.decay * p + m / (1 - std::pow(0.9, n)) / (std::sqrt(v / (1 - std::pow(0.98, n))) + 1e-8));
      }
  };
}

Shape as_many_as_fit() {
  Shape shape{5, 0, 0};
  shape.insert(shape.end(), kMostSeveral, 200);
  return shape;
}

const Listed adamw_entry{{
    .name = "adamw",
    .shapes = {{0, 0, 0, 4}, {1, 0, 0, 20'000, 4, 36}, {200, 3, 0, 100, 104, 39'432, 8}, {7, 0, 1, 64, 32}},
    .cpu_shapes = {{3, 0, 0, 1, 105, 39'431}},
    .gpu_shapes = {as_many_as_fit()},
    .timed = {{5, 0, 0, 32'000'000}},
    .body = adamw_case,
}};

// What a tensor in fewer bits has, by its number.
enum : std::int64_t { kBf16 = 1, kF16 = 2, kCoded = 4 };

// x rounded to a 16-bit type: away from 0 for the largest share of draws that the distances allow.
double at_random(double x, Stored type, std::uint32_t draw) {
  if (x == 0) return 0;
  const double magnitude = std::abs(static_cast<double>(static_cast<float>(x)));
  const double unit = type == Stored::bf16 ? std::exp2(std::floor(std::log2(magnitude)) - 7)
                                           : std::max(std::exp2(std::floor(std::log2(magnitude)) - 10), 0x1p-24);
  const double below = std::floor(magnitude / unit) * unit, share = (magnitude - below) / unit;
  const double drawn = type == Stored::bf16 ? draw / 65536.0 : draw / 8 / 8192.0;
  return std::copysign(share + drawn >= 1 ? below + unit : below, x);
}

// The code, of those around a share, that a draw chooses; value(q) grows with q.
template <typename Value>
int code_at_random(double share, std::uint32_t draw, Value&& value) {
  int q = 0;
  while (value(q + 1) <= share) ++q;
  return q + ((share - value(q)) / (value(q + 1) - value(q)) > (draw + 0.5) / 256);
}

// [step, overflow, then of each tensor its kind and its length]. A GPU takes multiples of 4, and 16-bit parameters of one type.
void adamw_narrow_case(Case& c, const Shape& s) {
  StepControl now{.step = s[0], .learning_rate = 4e-3f};
  now.overflow = static_cast<std::int32_t>(s[1]);
  const auto control = c.control(now), norm = c.input("norm", {2}, constant(0.25), Stored::single);
  struct One {
    Id gradient, parameter, m, v, m_scale, v_scale;
    Stored stored;
    bool coded;
  };
  const auto code = [](std::int64_t least, std::int64_t most) -> Fill {
    return [=](Tensor<double>& x, Random& random) {
      below(most + 1 - least)(x, random);
      for (double& value : x.data) value += static_cast<double>(least);
    };
  };
  std::vector<One> all;
  for (std::size_t i = 2; i < s.size(); i += 2) {
    const Shape shape{s[i + 1]};
    const bool coded = (s[i] & kCoded) != 0;
    const Stored stored = (s[i] & kBf16) != 0 ? Stored::bf16 : (s[i] & kF16) != 0 ? Stored::f16 : Stored::single;
    const Shape blocks = shape_if(coded, {moment_blocks(shape[0])});
    const auto moment = [&](const char* name, Fill whole, Fill coded_fill) {
      const Id id = c.updated(name, shape, coded ? std::move(coded_fill) : std::move(whole), coded ? Stored::u8 : Stored::single);
      c[id].drawn = coded;
      return id;
    };
    all.push_back({c.input("gradient", shape, noise(0.1), Stored::single), c.updated("parameter", shape, noise(0.5), stored),
                   moment("m", noise(0.1), code(1, 255)), moment("v", positive(0.1), code(20, 255)),
                   c.updated("m_scale", blocks, positive(0.3), Stored::single, Use::replaced),
                   c.updated("v_scale", blocks, positive(0.05), Stored::single, Use::replaced), stored, coded});
  }
  c.tolerance = 5e-5;
  c.run("adamw", [=](auto& device, const Operands& at) {
    AdamW arguments{at[control], at[norm], {}};
    std::uint64_t draws = 3;
    for (const One& u : all) {
      arguments.updates.add({at[u.gradient], at[u.parameter], at[u.m], at[u.v], 0.05, {}, at[u.m_scale], at[u.v_scale], draws++});
    }
    adamw(device, arguments);
  });
  c.formula = [=](Values& x) {
    const double n = static_cast<double>(s[0] + 1), rate = static_cast<double>(now.learning_rate);
    for (std::size_t t = 0; now.overflow == 0 && t < all.size(); ++t) {
      const One& u = all[t];
      for (std::int64_t begin = 0; begin < x[u.m].shape[0]; begin += kMomentBlock) {
        const std::int64_t end = std::min(x[u.m].shape[0], begin + kMomentBlock), block = begin / kMomentBlock;
        double most_m = 0, most_v = 0;
        for (std::int64_t i = begin; i < end; ++i) {
          const double g = 0.25 * x[u.gradient][i];
          double &p = x[u.parameter][i], &m = x[u.m][i], &v = x[u.v][i];
          if (u.coded) {
            const double q = m - 128;
            m = x[u.m_scale][block] * q * std::abs(q) / (127 * 127);
            v = x[u.v_scale][block] * std::pow(v / 255, 4);
          }
          m = 0.9 * m + 0.1 * g;
          v = 0.98 * v + 0.02 * g * g;
          p -= rate * (0.05 * p + m / (1 - std::pow(0.9, n)) / (std::sqrt(v / (1 - std::pow(0.98, n))) + 1e-8));
          most_m = std::max(most_m, std::abs(m)), most_v = std::max(most_v, v);
        }
        for (std::int64_t i = begin; i < end; ++i) {
          const std::uint32_t draw =
              philox(3 + t, static_cast<std::uint64_t>(s[0]), static_cast<std::uint64_t>(i) / 4)[static_cast<std::size_t>(i) % 4];
          if (u.stored != Stored::single) x[u.parameter][i] = at_random(x[u.parameter][i], u.stored, draw & 0xFFFF);
          if (!u.coded) continue;
          double &m = x[u.m][i], &v = x[u.v][i];
          const int q = code_at_random(std::abs(m) / most_m, draw >> 16 & 0xFF, [](int k) { return k * k / (127.0 * 127); });
          m = m < 0 ? 128 - q : 128 + q;
          v = std::max(1, code_at_random(v / most_v, draw >> 24, [](int k) { return std::pow(k / 255.0, 4); }));
        }
        if (u.coded) x[u.m_scale][block] = most_m, x[u.v_scale][block] = most_v;
      }
    }
  };
}

const Listed adamw_narrow_entry{{
    .name = "adamw_narrow",
    .shapes = {{0, 0, kBf16, 4},
               {1, 0, kBf16, 20'000, 0, 36, kBf16 | kCoded, 1'000, kCoded, 260},
               {9, 0, kF16 | kCoded, 17'000, kCoded, 39'432, kF16, 8},
               {200, 0, kCoded, 256, kCoded, 252, kBf16 | kCoded, 16'640},
               {7, 1, kBf16 | kCoded, 64, kCoded, 32}},
    .cpu_shapes = {{3, 0, kCoded, 1, kBf16, 105, kF16 | kCoded, 39'431}},
    .timed = {{5, 0, kBf16 | kCoded, 32'000'000}, {5, 0, kCoded, 32'000'000}, {5, 0, kBf16, 32'000'000}},
    .body = adamw_narrow_case,
}};

}  // namespace
}  // namespace neurogen

#include "kernels/brain/attention.h"
#include "kernels/brain/synapses.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

class CudaAttention : public CudaTest, public testing::WithParamInterface<DType> {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (!IsSkipped() && GetParam() == DType::bf16 && gpu().capability() < 80) GTEST_SKIP() << "this GPU knows no bf16";
  }
  struct Heads {
    std::int64_t roles, heads, window, windows, outputs = heads * kHead, tokens = window * windows, columns = roles * kGroup;
    Tensor<std::int32_t> first{};
    Tensor<double> currents{}, d_out{}, inverse_rms{}, dot{}, gain{}, pre_norm{}, d_currents{}, d_gain{}, scratch{};
  };
  Heads make() {
    Heads a{.roles = draw(4, 5), .heads = draw(1, 3), .window = draw(0, 3) ? draw(1, 300) : draw(1, 5), .windows = draw(1, 4)};
    a.first = documents_of(a.windows, a.window, [&](auto least, auto most) { return draw(least, most); });
    a.currents = noise({2 * a.heads, a.tokens, a.columns});
    a.d_out = noise({a.tokens, a.outputs});
    a.inverse_rms = noise({a.tokens}, 0.1, 1), a.dot = noise({a.tokens}, 0.1), a.gain = noise({a.outputs}, 0.3, 1);
    a.pre_norm = Tensor<double>::poisoned({a.tokens, a.outputs});
    a.d_currents = Tensor<double>::poisoned(a.currents.shape);
    a.d_gain = noise({a.outputs});
    a.scratch = Tensor<double>({2, attention_scratch(a.window)}, 0);
    return a;
  }
  struct GpuHeads {
    OnGpu first, currents, d_out, inverse_rms, dot, gain, pre_norm, d_currents, d_gain;
  };
  static GpuHeads copy_of(Heads& a, DType low) {
    const auto single = [](Tensor<double>& x) { return OnGpu(x, DType::f32); };
    return {OnGpu(a.first),  OnGpu(a.currents, low), OnGpu(a.d_out, gradient_of(low)),    single(a.inverse_rms),
            single(a.dot),   single(a.gain),         OnGpu(a.pre_norm, gradient_of(low)), OnGpu(a.d_currents, low),
            single(a.d_gain)};
  }
  template <typename Device, typename AnyHeads>
  static void run(Device& device, const Heads& a, AnyHeads& b, TensorView scratch) {
    const OnGpu q(GetParam(), {a.tokens, a.outputs}), mixed(GetParam(), {a.tokens, a.outputs}),
        notes = OnGpu::poisoned({2 * a.heads, a.tokens}, DType::f32),
        sums = OnGpu::poisoned({a.windows, attention_tiles(a.window, GetParam()), a.outputs}, DType::f32);
    attention_forward(device, {b.currents.view(), b.first.view(), a.window, b.pre_norm.view(), scratch});
    attention_backward(
        device, {b.currents.view(), b.first.view(), a.window, b.d_out.view(), b.inverse_rms.view(), b.dot.view(), b.gain.view(),
                 b.d_currents.view(), b.d_gain.view(), scratch, q.view(), mixed.view(), notes.view(), sums.view()});
  }
};

TEST_P(CudaAttention, EqualsTheCpu) {
  for (int i = 0; i < 16; ++i) {
    Heads a = make();
    SCOPED_TRACE(testing::Message() << "R " << a.roles << " heads " << a.heads << " window " << a.window << " windows "
                                    << a.windows);
    GpuHeads b = copy_of(a, GetParam());
    run(device_of(2), a, a, a.scratch.view());
    run(gpu(), a, b, {});
    // Bounds for products of rounded queries, keys, values, weights and their gradients.
    const double low = 3 * rounding(GetParam());
    expect_close_in_norm(b.pre_norm, a.pre_norm, 1e-5 + low, "pre_norm");
    expect_close_in_norm(b.d_currents, a.d_currents, 2e-5 + low, "d_currents");
    expect_close_in_norm(b.d_gain, a.d_gain, 2e-5 + low, "d_gain");
    if (HasFailure()) return;
  }
}

TEST_P(CudaAttention, RangesAndSectionsChangeNoBit) {
  for (int i = 0; i < 6; ++i) {
    Heads a = make();
    GpuHeads whole = copy_of(a, GetParam()), parts = copy_of(a, GetParam());
    run(gpu(), a, whole, {});
    for (std::int64_t w = 0; w < a.windows; ++w)
      for (std::int64_t head = 0; head < a.heads; ++head) {
        Tensor<double> section({2, a.window, a.columns}, 0);
        for (std::int64_t g = 0; g < 2; ++g)
          std::copy_n(&a.currents[((2 * head + g) * a.tokens + w * a.window) * a.columns], a.window * a.columns,
                      &section[g * a.window * a.columns]);
        const OnGpu u(section, GetParam()), d_u = OnGpu::poisoned(section.shape, GetParam());
        const OnGpu q(GetParam(), {a.window, kHead}), mixed(GetParam(), {a.window, kHead}),
            notes = OnGpu::poisoned({2, a.window}, DType::f32),
            sums = OnGpu::poisoned({1, attention_tiles(a.window, GetParam()), kHead}, DType::f32);
        const auto rows = [&](const OnGpu& x) { return x.view().rows(w * a.window, a.window); };
        const auto part = [&](const OnGpu& x) { return rows(x).columns(head * kHead, kHead); };
        attention_forward(gpu(), {u.view(), rows(parts.first), a.window, part(parts.pre_norm), {}});
        attention_backward(gpu(), {u.view(),
                                   rows(parts.first),
                                   a.window,
                                   part(parts.d_out),
                                   rows(parts.inverse_rms),
                                   rows(parts.dot),
                                   parts.gain.view().rows(head * kHead, kHead),
                                   d_u.view(),
                                   parts.d_gain.view().rows(head * kHead, kHead),
                                   {},
                                   q.view(),
                                   mixed.view(),
                                   notes.view(),
                                   sums.view()});
        const Tensor<double> d_part = d_u.values(), d_whole = whole.d_currents.values();
        for (std::int64_t g = 0; g < 2; ++g)
          EXPECT_EQ(std::memcmp(&d_part[g * a.window * a.columns], &d_whole[((2 * head + g) * a.tokens + w * a.window) * a.columns],
                                static_cast<std::size_t>(a.window * a.columns) * sizeof(double)),
                    0);
      }
    expect_same_values(parts.pre_norm, whole.pre_norm, "pre_norm");
    expect_same_values(parts.d_gain, whole.d_gain, "d_gain");
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaAttention, testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& type) { return name_of(type.param); });

using CudaAttentionStep = CudaTest;

TEST_F(CudaAttentionStep, EqualsTheCpu) {
  for (int i = 0; i < 6; ++i) {
    const std::int64_t roles = draw(4, 5), heads = draw(1, 3), streams = draw(1, 3), ring = draw(1, 90), steps = draw(1, 120);
    const DType type = draw(0, 1) ? DType::bf16 : DType::f32;
    const std::int64_t start = draw(0, 1) * 100'000'003, document = start + draw(0, steps / 2);
    SCOPED_TRACE(testing::Message() << "R " << roles << " heads " << heads << " streams " << streams << " ring " << ring
                                    << " start " << start);
    Tensor<double> keys = Tensor<double>::poisoned({streams, ring, heads * kHead}), values = keys;
    const OnGpu gpu_keys(keys, DType::f32), gpu_values(values, DType::f32);
    for (std::int64_t t = 0; t < steps; ++t) {
      Tensor<double> u = noise({2 * heads, streams, roles * kGroup}), out = Tensor<double>::poisoned({streams, heads * kHead});
      Tensor<std::int64_t> position({1}, start + t), first({1}, t + start >= document ? document : start);
      const OnGpu gpu_u(u, DType::f32), gpu_out(type, out.shape), gpu_position(position), gpu_first(first);
      attention_step(device_of(2), {u.view(), keys.view(), values.view(), position.view(), first.view(), out.view()});
      attention_step(gpu(),
                     {gpu_u.view(), gpu_keys.view(), gpu_values.view(), gpu_position.view(), gpu_first.view(), gpu_out.view()});
      expect_close_in_norm(gpu_out, out, 1e-5 + rounding(type), "pre_norm");
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace neurogen

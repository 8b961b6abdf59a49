#include "tests/kernels/cuda_wiring.h"

namespace neurogen {
namespace {

class CudaSynapses : public CudaWiringTest, public testing::WithParamInterface<DType> {
 protected:
  struct Net {
    std::int64_t roles, width, slots, groups, window, windows, rows, parts;  // parts: on the GPU
    bool low_currents;                                                       // on the GPU
    std::int64_t tokens = window * windows, columns = roles * kGroup, fan_in = slots * width, blocks = 0;
    std::vector<Tensor<double>> sources{}, d_sources{};
    Tensor<std::int32_t> wiring{}, reader_start{}, readers{}, first{};
    Tensor<double> weight{}, taps{}, bias{}, currents{}, before{}, d_currents{}, d_weight{}, d_taps{}, d_bias{}, scratch{};
  };

  Net make() {
    Net a{.roles = draw(2, 5),
          .width = draw(0, 1) ? 32 : 16,
          .slots = draw(1, 10),
          .groups = draw(1, 5),
          .window = draw(0, 4) ? draw(1, 200) : 1,
          .windows = draw(0, 4) ? draw(1, 5) : 1,  // a single token has its own kernel
          .rows = 0,
          .parts = draw(1, 4),
          .low_currents = draw(0, 1) == 1};
    a.rows = a.window * draw(1, 3);
    draw_wiring(a);
    a.first = documents_of(a.windows, a.window, [&](auto least, auto most) { return draw(least, most); });
    a.taps = noise({2 * a.roles, a.groups * kGroup});
    if (a.tokens == 1) a.before = noise({a.groups, a.columns});
    a.weight = noise({a.groups, a.fan_in, a.columns}, 0.2);
    a.bias = noise({a.roles, a.groups * kGroup});
    a.currents = Tensor<double>::poisoned({a.groups, a.tokens, a.columns});
    a.d_currents = noise({a.groups, a.tokens, a.columns});
    a.d_weight = Tensor<double>({a.groups, a.fan_in, a.columns}, 0);
    a.d_taps = Tensor<double>(a.taps.shape, 0);
    a.d_bias = noise({a.roles, a.groups * kGroup});
    a.scratch = Tensor<double>({2, synapses_scratch(a.fan_in + a.columns, a.rows)}, 0);
    return a;
  }

  struct GpuNet {
    std::vector<OnGpu> sources{}, d_sources{};
    OnGpu wiring, reader_start, readers, first, weight, master, taps, bias, currents, before, d_currents, d_weight, d_bias, scratch;
  };
  static GpuNet copy_of(Net& a, DType type) {
    GpuNet b{.wiring = OnGpu(a.wiring),
             .reader_start = OnGpu(a.reader_start),
             .readers = OnGpu(a.readers),
             .first = OnGpu(a.first),
             .weight = OnGpu(a.weight, type),
             .master = OnGpu(a.weight, DType::f32),
             .taps = OnGpu(a.taps, DType::f32),
             .bias = OnGpu(a.bias, DType::f32),
             .currents = OnGpu(a.currents, a.low_currents ? type : DType::f32),
             .before = OnGpu(a.before, DType::f32),
             .d_currents = OnGpu(a.d_currents, type),
             .d_weight = parts_of(a.d_weight, 2 * a.parts),
             .d_bias = parts_of(a.d_bias, a.parts),
             .scratch = OnGpu(type, {2 * a.groups, a.fan_in, a.columns})};
    for (Tensor<double>& x : a.sources) b.sources.emplace_back(x, type);
    for (Tensor<double>& x : a.d_sources) b.d_sources.emplace_back(x, gradient_of(type));
    return b;
  }

  // The same calls on both sides.
  template <typename Device, typename AnyNet>
  static void forward(Device& device, const Net& a, AnyNet& b, TensorView scratch, std::int64_t group, std::int64_t groups) {
    synapses_forward(device, {all(b.sources, 0, a.tokens), b.wiring.view().rows(group, groups), b.weight.view().rows(group, groups),
                              Taps{b.taps.view().columns(group * kGroup, groups * kGroup), b.first.view(), a.window},
                              b.bias.view().columns(group * kGroup, groups * kGroup), b.currents.view().rows(group, groups), a.rows,
                              scratch, b.before.view() ? b.before.view().rows(group, groups) : TensorView{}});
  }
  template <typename Device, typename AnyNet>
  static void backward(Device& device, const Net& a, AnyNet& b, TensorView scratch) {
    const Taps taps{b.taps.view(), b.first.view(), a.window};
    TensorView d_taps;
    if constexpr (std::is_same_v<AnyNet, Net>) d_taps = b.d_taps.view();
    synapses_backward_weights(device, {all(b.sources, 0, a.tokens), b.wiring.view(), b.weight.view(), taps, b.d_currents.view(),
                                       b.d_weight.view(), d_taps, b.d_bias.view(), a.rows, scratch, a.parts, 0});
    synapses_readers(device, {b.wiring.view(), b.reader_start.view(), b.readers.view()});
    synapses_backward_sources(device, {b.d_currents.view(), b.weight.view(), taps, b.reader_start.view(), b.readers.view(),
                                       all(b.d_sources, 0, a.tokens), a.rows, b.scratch.view()});
  }
};

// Products are exact. Sums of n float32 terms, n below 6,000 here, err by at most sqrt(n) units; tensor cores truncate instead of
// rounding, and so err by n / 4.
constexpr double kTolerance = 1e-5;

TEST_P(CudaSynapses, EqualTheCpu) {
  for (int i = 0; i < 12; ++i) {
    const SharedMemory limit(i % 2 == 0 ? UINT64_MAX : 64 * 1024);  // compute capability 7.5
    Net a = make();
    GpuNet b = copy_of(a, GetParam());
    SCOPED_TRACE(testing::Message() << "R " << a.roles << " width " << a.width << " slots " << a.slots << " groups " << a.groups
                                    << " window " << a.window << " windows " << a.windows << " rows " << a.rows << " parts "
                                    << a.parts);
    forward(device_of(2), a, a, a.scratch.view(), 0, a.groups);
    backward(device_of(2), a, a, a.scratch.view());
    forward(gpu(), a, b, {}, 0, a.groups);
    backward(gpu(), a, b, {});
    expect_close_in_norm(b.currents, a.currents, kTolerance + (a.low_currents ? rounding(GetParam()) : 0), "currents");
    if (a.tokens == 1) expect_close_in_norm(b.before, a.before, kTolerance, "before");
    const OnGpu d_weight(DType::f32, a.d_weight.shape), d_taps(DType::f32, a.d_taps.shape);
    synapses_backward_taps(gpu(), {b.d_weight, b.master, b.taps, d_weight, d_taps});
    expect_close_in_norm(d_weight, a.d_weight, kTolerance, "d_weight");
    expect_close_in_norm(d_taps, a.d_taps, kTolerance, "d_taps");
    expect_close_in_norm(sum_of(b.d_bias, a.d_bias.shape), a.d_bias, kTolerance, "d_bias");
    for (std::size_t s = 0; s < a.sources.size(); ++s)
      expect_close_in_norm(b.d_sources[s], a.d_sources[s], kTolerance + rounding(GetParam()) + rounding(gradient_of(GetParam())),
                           "d_source");  // weights times taps
    EXPECT_EQ(b.readers.values().data, std::vector<double>(a.readers.data.begin(), a.readers.data.end()));
    if (HasFailure()) return;
  }
}

TEST_P(CudaSynapses, RangesAndSectionsChangeNoBit) {
  for (int i = 0; i < 6; ++i) {
    Net a = make();
    GpuNet whole = copy_of(a, GetParam()), parts = copy_of(a, GetParam());
    forward(gpu(), a, whole, {}, 0, a.groups);
    backward(gpu(), a, whole, {});
    const std::int64_t cut = draw(0, a.groups), token = std::min(draw(0, 3) * a.rows, a.tokens);
    if (cut > 0) forward(gpu(), a, parts, {}, 0, cut);
    if (cut < a.groups) forward(gpu(), a, parts, {}, cut, a.groups - cut);
    expect_same_values(parts.currents, whole.currents, "currents of ranges");
    for (const auto& [begin, count] : {std::pair{std::int64_t{0}, token}, std::pair{token, a.tokens - token}}) {
      if (count == 0) continue;
      Tensor<double> section({a.groups, count, a.columns}, 0);
      for (std::int64_t g = 0; g < a.groups; ++g)
        std::copy_n(&a.d_currents[(g * a.tokens + begin) * a.columns], count * a.columns, &section[g * count * a.columns]);
      const OnGpu d_currents(section, GetParam());
      const Taps taps{parts.taps.view(), parts.first.view().rows(begin, count), a.window};
      synapses_backward_weights(gpu(), {all(parts.sources, begin, count),
                                        parts.wiring.view(),
                                        {},
                                        taps,
                                        d_currents.view(),
                                        parts.d_weight.view(),
                                        {},
                                        parts.d_bias.view(),
                                        a.rows,
                                        {},
                                        a.parts,
                                        begin / a.rows});
      synapses_backward_sources(gpu(), {d_currents.view(), parts.weight.view(), taps, whole.reader_start.view(),
                                        whole.readers.view(), all(parts.d_sources, begin, count), a.rows, parts.scratch.view()});
    }
    expect_same_values(parts.d_weight, whole.d_weight, "d_weight of sections");
    expect_same_values(parts.d_bias, whole.d_bias, "d_bias of sections");
    for (std::size_t s = 0; s < a.sources.size(); ++s)
      expect_same_values(parts.d_sources[s], whole.d_sources[s], "d_source of sections");
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaSynapses, testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& type) { return name_of(type.param); });

}  // namespace
}  // namespace neurogen

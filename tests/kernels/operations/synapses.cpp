#include "kernels/brain/cortical_columns.h"
#include "kernels/cast.h"
#include "tests/kernels/operations/brain.h"

namespace neurogen {
namespace {

// [R, width of a block, slots, groups, T, windows, windows of a product, currents as narrow as weights, parts on a GPU, the
// sources' widths ...]. A single token continues from the one before.
void synapses_case(Case& c, const Shape& s) {
  const std::int64_t roles = s[0], width = s[1], slots = s[2], groups = s[3], window = s[4], tokens = window * s[5],
                     product = window * s[6], parts = s[8], columns = roles * kGroup, outputs = groups * kGroup,
                     fan_in = slots * width;
  const bool streams = tokens == 1;
  const std::vector<std::int64_t> widths(s.begin() + 9, s.end());
  const auto single = Stored::single;
  Wiring w = wire(c, groups, slots, width, tokens, window, widths);
  wire_back(c, w);
  const Shape weights{groups, fan_in, columns}, tapped{2 * roles, outputs}, biases{roles, outputs}, inside{groups, tokens, columns};
  const auto weight = c.input("weight", weights, noise(0.2)), taps = c.input("taps", tapped, noise(), single),
             bias = c.input("bias", biases, noise(), single);
  const auto before = c.updated("before", {streams ? groups : 0, columns}, noise(), single);
  const auto currents = c.output("currents", inside, s[7] ? Stored::tested : single), d_currents = c.input("d_currents", inside);
  const auto d_weight = c.output("d_weight", weights, single), d_taps = c.output("d_taps", tapped, single),
             d_bias = c.output("d_bias", biases, single);
  const auto scratch = c.scratch("scratch", {3, synapses_scratch(fan_in + columns, product)}),
             section = c.scratch("section", inside);
  // A GPU adds to parts of the gradients and leaves taps to another operation; a CPU has them at once.
  const auto master = c.scratch("master", weights, single),
             tapped_weight = c.scratch("tapped weights", {2 * groups, fan_in, columns}),
             weight_parts = c.scratch("weight parts", {2 * parts * groups, fan_in, columns}, single),
             taps_part = c.scratch("taps part", tapped, single),
             bias_parts = c.scratch("bias parts", {parts * roles, outputs}, single);
  c.tolerance = 1e-5;

  const auto forward = [=](auto& device, const Operands& at, std::int64_t group, std::int64_t count) {
    synapses_forward(device, {w.of(at, w.sources, 0, tokens), at[w.wiring].rows(group, count), at[weight].rows(group, count),
                              Taps{at[taps].columns(group * kGroup, count * kGroup), at[w.first], window},
                              at[bias].columns(group * kGroup, count * kGroup), at[currents].rows(group, count), product,
                              at[scratch], before ? at[before].rows(group, count) : TensorView{}});
  };
  const auto begin = [=](auto& device, const Operands& at) {
    for (const Id id : {weight_parts, taps_part, bias_parts}) clear(device, at[id]);
    cast(device, at[weight], at[master]);
  };
  // In sections of whole products.
  const auto backward_weights = [=](auto& device, const Operands& at, std::int64_t step) {
    constexpr bool on_cpu = kOnCpu<std::remove_reference_t<decltype(device)>>;
    for (std::int64_t token = 0; token < tokens; token += step) {
      const Part p{0, groups, token, std::min(step, tokens - token)};
      synapses_backward_weights(
          device,
          {w.of(at, w.sources, token, p.tokens), at[w.wiring], at[weight], Taps{at[taps], p.rows(at[w.first]), window},
           p.pack(device, at[d_currents], at[section]), on_cpu ? at[weight_parts].rows(0, groups) : at[weight_parts], at[taps_part],
           on_cpu ? at[bias_parts].rows(0, roles) : at[bias_parts], product, at[scratch], parts, token / product});
    }
  };
  const auto backward_taps = [=](auto& device, const Operands& at) {
    if constexpr (!kOnCpu<std::remove_reference_t<decltype(device)>>) {
      synapses_backward_taps(device, {at[weight_parts], at[master], at[taps], at[d_weight], at[d_taps]});
      cortical_columns_sum(device, {{at[bias_parts], at[d_bias]}});
    } else {
      copy(device, at[weight_parts].rows(0, groups), at[d_weight]);
      copy(device, at[taps_part], at[d_taps]);
      copy(device, at[bias_parts].rows(0, roles), at[d_bias]);
    }
  };
  const auto backward_sources = [=](auto& device, const Operands& at, std::int64_t step) {
    constexpr bool on_cpu = kOnCpu<std::remove_reference_t<decltype(device)>>;
    for (std::int64_t token = 0; token < tokens; token += step) {
      const Part p{0, groups, token, std::min(step, tokens - token)};
      synapses_backward_sources(device, {p.pack(device, at[d_currents], at[section]), at[weight],
                                         Taps{at[taps], p.rows(at[w.first]), window}, at[w.reader_start], at[w.readers],
                                         w.of(at, w.d_sources, token, p.tokens), product, at[on_cpu ? scratch : tapped_weight]});
    }
  };
  const double flops = 2 * static_cast<double>(tokens * groups * fan_in * columns);
  c.run("synapses_readers", [=](auto& device, const Operands& at) {
    synapses_readers(device, {at[w.wiring], at[w.reader_start], at[w.readers]});
  });
  c.run("synapses_forward", [=](auto& device, const Operands& at) { forward(device, at, 0, groups); }, {flops});
  c.loss_is(currents, d_currents);
  c.run("begin", begin);
  c.run("synapses_backward_weights", [=](auto& device, const Operands& at) { backward_weights(device, at, tokens); }, {flops});
  c.run("synapses_backward_taps", backward_taps);
  c.run("synapses_backward_sources", [=](auto& device, const Operands& at) { backward_sources(device, at, tokens); }, {flops});
  c.also("in ranges and sections", [=](auto& device, const Operands& at) {
    synapses_readers(device, {at[w.wiring], at[w.reader_start], at[w.readers]});
    for (std::int64_t g = groups - 1; g >= 0; --g) forward(device, at, g, 1);
    begin(device, at);
    backward_weights(device, at, 2 * product);
    backward_taps(device, at);
    backward_sources(device, at, 2 * product);
  });

  c.formula = [=](Values& v) {
    for (std::int64_t g = 0; g < groups; ++g)
      for (std::int64_t col = 0; col < columns; ++col) {
        const std::int64_t output = col / 32 * outputs + g * 32 + col % 32;
        double last = before ? v[before][g * columns + col] : 0;
        for (std::int64_t n = 0; n < tokens; ++n) {
          double sum = 0;
          for (std::int64_t f = 0; f < fan_in; ++f) {
            std::int64_t column = static_cast<std::int64_t>(v[w.wiring][g * slots + f / width]) * width + f % width;
            std::size_t source = 0;
            while (column >= widths[source]) column -= widths[source++];
            sum += v[w.sources[source]][n * widths[source] + column] * v[weight][(g * fan_in + f) * columns + col];
          }
          if (!before && v[w.first][n] == static_cast<double>(n % window)) last = 0;
          v[currents][(g * tokens + n) * columns + col] =
              v[taps][output] * sum + v[taps][roles * outputs + output] * last + v[bias][output];
          last = sum;
        }
        if (before) v[before][g * columns + col] = last;
      }
    std::int64_t n = 0;
    v[w.reader_start][0] = 0;
    for (std::int64_t block = 0; block < w.blocks; ++block) {
      for (std::int64_t i = 0; i < groups * slots; ++i)
        if (v[w.wiring][i] == static_cast<double>(block)) v[w.readers][n++] = static_cast<double>(i);
      v[w.reader_start][block + 1] = static_cast<double>(n);
    }
  };
  c.formula_gives = {currents, w.readers, w.reader_start};
  if (before) {
    c.formula_gives.push_back(before);
    return;  // gradients are those of tokens after nothing
  }
  c.gradient(weight, d_weight), c.gradient(taps, d_taps), c.gradient(bias, d_bias);
  for (std::size_t i = 0; i < widths.size(); ++i) c.gradient(w.sources[i], w.d_sources[i]);
}

const Listed synapses_entry{{
    .name = "synapses",
    .shapes = {{2, 32, 2, 3, 4, 5, 2, 0, 1, 96},
               {3, 16, 3, 3, 4, 5, 2, 1, 2, 64, 32},
               {4, 32, 3, 3, 4, 5, 2, 0, 3, 32, 64, 32},
               {5, 32, 4, 3, 4, 5, 2, 0, 1, 64, 96, 32, 64},
               {5, 16, 2, 3, 4, 5, 2, 0, 2, 32, 32, 32, 32, 64},
               {3, 16, 2, 2, 1, 1, 1, 0, 1, 32, 64}},
    .gpu_shapes = {{5, 32, 10, 5, 200, 5, 1, 1, 4, 160, 32, 96},
                   {2, 16, 7, 2, 77, 3, 3, 0, 2, 128},
                   {4, 32, 4, 4, 1, 1, 1, 0, 1, 64, 160},
                   {3, 32, 1, 1, 1, 4, 1, 0, 1, 32}},
    .timed = {{4, 32, 2, 32, 256, 32, 1, 0, 8, 1024},
              {5, 32, 3, 256, 256, 32, 1, 0, 1, 1024, 1024},
              {5, 32, 3, 128, 256, 32, 1, 1, 2, 8192, 1024},
              {5, 32, 3, 64, 256, 32, 1, 0, 4, 8192, 4096, 1024},
              {5, 32, 4, 256, 256, 32, 1, 0, 1, 8192, 4096},
              {5, 32, 3, 256, 256, 32, 1, 0, 1, 8192, 8192, 4096, 1024, 1024}},
    .body = synapses_case,
    .shared_memory = {UINT64_MAX, 64 * 1024},  // compute capability 7.5
}};

}  // namespace
}  // namespace neurogen

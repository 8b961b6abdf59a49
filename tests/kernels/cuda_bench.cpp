// Times each of the brain's own operations at the shapes of the full preset, 8,192 tokens in bf16, in milliseconds beside the least
// time for its bytes (at 4.2 TB/s) and products (at 700 TFLOP/s).
//   cuda_bench [megabytes of currents at once]
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "arena/error.h"
#include "kernels/base/cuda_device.h"
#include "kernels/brain/attention.h"
#include "kernels/brain/cortical_columns.h"
#include "kernels/brain/microcircuit.h"
#include "kernels/brain/synapses.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 8192, kWindow = 256;
double tile_bytes = 128e6;  // bytes of currents that exist at once

struct ModuleShape {
  const char* name;
  std::int64_t outputs, roles, fan_in;
  std::vector<std::int64_t> sources;
  bool residual, gated;
};

std::vector<std::shared_ptr<void>> memory;

// Noise: the same 2^20 values repeated.
TensorView make(CudaDevice& gpu, DType type, const Shape& shape) {
  static const std::vector<std::vector<std::uint16_t>> noise = [] {
    std::vector<std::vector<std::uint16_t>> result(2);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int i = 0; i < 1 << 20; ++i) {
      const float x = normal(random);
      const auto bits = std::bit_cast<std::uint32_t>(x);
      result[0].push_back(static_cast<std::uint16_t>(bits >> 16));
      result[1].push_back(static_cast<std::uint16_t>(bits));
      result[1].push_back(static_cast<std::uint16_t>(bits >> 16));
    }
    return result;
  }();
  const std::vector<std::uint16_t>& from = noise[type == DType::bf16 ? 0 : 1];
  const Bytes bytes = size_of(type, shape), piece = from.size() * 2;
  void* data = nullptr;
  if (cudaMalloc(&data, bytes) != cudaSuccess) throw Error("no memory");
  memory.emplace_back(data, [](void* p) { cudaFree(p); });
  if (type == DType::i32) cudaMemset(data, 0, bytes);
  else
    for (Bytes at = 0; at < bytes; at += piece)
      gpu.copy_now(from.data(), static_cast<char*>(data) + at, std::min(piece, bytes - at));
  return make_view(data, type, shape);
}

double median_ms(CudaDevice& gpu, const std::function<void()>& work) {
  std::vector<double> times;
  for (int i = 0; i < 12; ++i) {
    gpu.mark();
    work();
    gpu.mark();
    gpu.synchronize();
    if (i >= 3) times.push_back(gpu.milliseconds_between_marks());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Report {
  double measured = 0, floor = 0;
  void line(const char* module, const char* operation, double ms, double bytes, double flops = 0) {
    const double least = std::max(bytes / 4.2e9, flops / 700e9);
    fmt::print("{:14} {:22} {:8.3f} ms   floor {:7.3f}   x {:.2f}\n", module, operation, ms, least, ms / least);
    measured += ms, floor += least;
  }
};

void bench(CudaDevice& gpu, const ModuleShape& m, Report& report) {
  const std::int64_t groups = m.outputs / kGroup, columns = m.roles * kGroup, slots = m.fan_in / 32;
  memory.clear();
  std::int64_t width = 0;
  Sources sources, d_sources;
  for (const std::int64_t w : m.sources) {
    sources.outputs[static_cast<std::size_t>(sources.count++)] = make(gpu, DType::bf16, {kTokens, w});
    d_sources.outputs[static_cast<std::size_t>(d_sources.count++)] = make(gpu, DType::bf16, {kTokens, w});
    width += w;
  }
  const std::int64_t blocks = width / 32;
  std::vector<std::int32_t> deal, host_wiring;
  std::mt19937 random(2);
  for (std::int64_t i = 0; i < groups * slots; ++i) {
    if (deal.empty())
      for (std::int64_t b = 0; b < blocks; ++b) deal.push_back(static_cast<std::int32_t>(b));
    const std::size_t pick = random() % deal.size();
    host_wiring.push_back(deal[pick]);
    deal.erase(deal.begin() + static_cast<std::ptrdiff_t>(pick));
  }
  const TensorView wiring = make(gpu, DType::i32, {groups, slots}), first = make(gpu, DType::i32, {kTokens});
  gpu.copy_now(host_wiring.data(), wiring.data, host_wiring.size() * 4);
  const TensorView start = make(gpu, DType::i32, {blocks + 1}), readers = make(gpu, DType::i32, {groups * slots});
  synapses_readers(gpu, {wiring, start, readers});
  const TensorView weight = make(gpu, DType::bf16, {groups, m.fan_in, columns}),
                   taps = make(gpu, DType::f32, {2 * m.roles, m.outputs}), bias = make(gpu, DType::f32, {m.roles, m.outputs});
  const TensorView d_weight = make(gpu, DType::f32, {2 * groups, m.fan_in, columns}),
                   tapped = make(gpu, DType::bf16, {2 * groups, m.fan_in, columns}),
                   d_bias = make(gpu, DType::f32, {m.roles, m.outputs});
  const auto tile = std::clamp<std::int64_t>(static_cast<std::int64_t>(tile_bytes / (4.0 * kTokens * columns)) / 2 * 2, 2, groups);
  const bool attends = std::string_view(m.name) == "hippocampus";
  const TensorView currents = make(gpu, attends ? DType::bf16 : DType::f32, {tile, kTokens, columns}),
                   hidden = make(gpu, DType::f32, {tile, kTokens, kGroup});
  const TensorView d_currents = make(gpu, DType::bf16, {groups, kTokens, columns});
  const TensorView retain = make(gpu, DType::f32, {m.outputs}), gain = make(gpu, DType::f32, {m.outputs});
  const TensorView pre_norm = make(gpu, DType::bf16, {kTokens, m.outputs}), d_out = make(gpu, DType::bf16, {kTokens, m.outputs});
  const TensorView inverse = make(gpu, DType::f32, {kTokens}), dot = make(gpu, DType::f32, {kTokens});
  const TensorView d_retain = make(gpu, DType::f32, {m.outputs}), d_gain = make(gpu, DType::f32, {m.outputs});
  const TensorView residual = m.residual ? make(gpu, DType::bf16, {kTokens, m.outputs}) : TensorView{};
  const TensorView d_residual = m.residual ? make(gpu, DType::bf16, {kTokens, m.outputs}) : TensorView{};
  const std::int64_t stripe = 4, openers = m.outputs / stripe;
  const TensorView opener = m.gated ? make(gpu, DType::bf16, {kTokens, openers}) : TensorView{};
  const TensorView gate_bias = m.gated ? make(gpu, DType::f32, {openers}) : TensorView{};
  const TensorView d_gate = m.gated ? make(gpu, DType::bf16, {kTokens, m.outputs}) : TensorView{};

  // Tile by tile, like the engine: synapses into one buffer, then the operation that reads it.
  const auto tiles = [&](auto&& body) {
    for (std::int64_t g = 0; g < groups; g += tile) body(g, std::min(tile, groups - g));
  };
  const auto of = [](const TensorView& view, std::int64_t g, std::int64_t n) {
    return view ? view.columns(g * kGroup, n * kGroup) : view;
  };
  const auto synapses = [&](std::int64_t g, std::int64_t n) {
    synapses_forward(gpu, {sources,
                           wiring.rows(g, n),
                           weight.rows(g, n),
                           Taps{of(taps, g, n), first, kWindow},
                           of(bias, g, n),
                           currents.rows(0, n),
                           kWindow,
                           {}});
  };
  const auto gate = [&](std::int64_t g) { return m.gated ? Gate{opener, gate_bias, stripe, g * kGroup} : Gate{}; };
  const auto range = [](const TensorView& view, std::int64_t g, std::int64_t n) { return view.rows(g * kGroup, n * kGroup); };
  const auto forward = [&](std::int64_t g, std::int64_t n) {
    if (attends) attention_forward(gpu, {currents.rows(0, n), first, kWindow, of(pre_norm, g, n), {}});
    else
      microcircuit_forward(
          gpu, {currents.rows(0, n), range(retain, g, n), first, kWindow, gate(g), of(residual, g, n), {}, of(pre_norm, g, n)});
  };
  const TensorView q = make(gpu, DType::bf16, {kTokens, m.outputs}), mixed = make(gpu, DType::bf16, {kTokens, m.outputs}),
                   notes = make(gpu, DType::f32, {groups, kTokens});
  const std::int64_t attention_blocks = attention_tiles(kWindow, DType::bf16);
  const TensorView attention_sums = make(gpu, DType::f32, {kTokens / kWindow, attention_blocks, m.outputs});
  const auto backward = [&](std::int64_t g, std::int64_t n) {
    if (attends)
      attention_backward(gpu, {currents.rows(0, n),
                               first,
                               kWindow,
                               of(d_out, g, n),
                               inverse,
                               dot,
                               range(gain, g, n),
                               d_currents.rows(g, n),
                               range(d_gain, g, n),
                               {},
                               make_view(q.data, DType::bf16, {kTokens, n * kGroup}),
                               make_view(mixed.data, DType::bf16, {kTokens, n * kGroup}),
                               make_view(notes.data, DType::f32, {n, kTokens}),
                               make_view(attention_sums.data, DType::f32, {kTokens / kWindow, attention_blocks, n * kGroup})});
    else
      microcircuit_backward(gpu, {currents.rows(0, n), range(retain, g, n), first, kWindow, gate(g), of(residual, g, n),
                                  of(d_out, g, n), inverse, dot, range(gain, g, n), hidden.rows(0, n), d_currents.rows(g, n),
                                  range(d_retain, g, n), range(d_gain, g, n), of(d_residual, g, n), of(d_gate, g, n)});
  };

  const auto tokens = static_cast<double>(kTokens), outputs = static_cast<double>(m.outputs),
             neurons = outputs * static_cast<double>(m.roles);
  const double low_currents = 2 * neurons * tokens, currents_bytes = (attends ? 1 : 2) * low_currents,
               source_bytes = 2 * tokens * static_cast<double>(width);
  const double weights = neurons * static_cast<double>(m.fan_in), flops = 2 * weights * tokens;
  const double extra = tokens * outputs * (m.residual ? 2 : 0) + tokens * outputs * (m.gated ? 0.5 : 0);
  report.line(m.name, "synapses_forward", median_ms(gpu, [&] { tiles(synapses); }), currents_bytes + source_bytes + 2 * weights,
              flops);
  report.line(m.name, attends ? "attention_forward" : "microcircuit_forward", median_ms(gpu, [&] { tiles(forward); }),
              currents_bytes + 2 * tokens * outputs + extra);
  report.line(
      m.name, attends ? "attention_backward" : "microcircuit_backward", median_ms(gpu, [&] { tiles(backward); }),
      currents_bytes + low_currents + 2 * tokens * outputs + extra + tokens * outputs * ((m.residual ? 4 : 0) + (m.gated ? 2 : 0)));
  report.line(m.name, "backward_weights",
              median_ms(gpu,
                        [&] {
                          synapses_backward_weights(
                              gpu,
                              {sources, wiring, weight, Taps{taps, first, kWindow}, d_currents, d_weight, {}, d_bias, kWindow, {}});
                        }),
              low_currents + source_bytes + 8 * weights, flops);
  report.line(m.name, "backward_sources",
              median_ms(gpu,
                        [&] {
                          synapses_backward_sources(
                              gpu, {d_currents, weight, Taps{taps, first, kWindow}, start, readers, d_sources, kWindow, tapped});
                        }),
              low_currents + 2 * source_bytes + 2 * weights, flops);
  if (m.gated) {
    const TensorView d_opener = make(gpu, DType::bf16, {kTokens, openers}), d_bias_gate = make(gpu, DType::f32, {openers}),
                     sums = make(gpu, DType::f32, {kTokens / kWindow, openers});
    report.line(m.name, "gate_backward",
                median_ms(gpu,
                          [&] {
                            gate_backward(gpu, {d_gate, {opener, gate_bias, stripe, 0}, kWindow, d_opener, d_bias_gate, sums});
                          }),
                tokens * outputs * (2 + 8.0 / 4));
  }
  if (!attends) {
    const TensorView carried = make(gpu, DType::f32, {kTokens / kCarry, m.outputs});
    const TensorView d_selected = make(gpu, DType::bf16, {groups * slots, kTokens, 32});
    const std::int64_t parts = std::max<std::int64_t>(1, 256 / groups);
    const TensorView part_weight = make(gpu, DType::f32, {parts * groups, m.fan_in, columns}),
                     part_taps = make(gpu, DType::f32, {2 * parts * m.roles, m.outputs}),
                     part_bias = make(gpu, DType::f32, {parts * m.roles, m.outputs}),
                     part_retain = make(gpu, DType::f32, {parts * m.outputs}),
                     part_gain = make(gpu, DType::f32, {parts * m.outputs});
    const CorticalColumns c{sources, wiring, weight, taps, bias, retain, first, kWindow, gate(0), residual, carried};
    const double selected = 2 * tokens * static_cast<double>(groups * m.fan_in);
    report.line(m.name, "columns_forward",
                median_ms(gpu,
                          [&] {
                            cortical_columns_forward(gpu, {c, pre_norm});
                          }),
                source_bytes + 2 * tokens * outputs + extra, flops);
    report.line(
        m.name, "columns_backward",
        median_ms(gpu,
                  [&] {
                    cortical_columns_backward(gpu, {c, d_out, inverse, dot, gain, d_selected, parts, 0, part_weight, part_taps,
                                                    part_bias, part_retain, part_gain, d_residual, d_gate});
                  }),
        source_bytes + selected + 2 * tokens * outputs + extra + tokens * outputs * ((m.residual ? 4 : 0) + (m.gated ? 2 : 0)),
        3 * flops);
    report.line(m.name, "columns_sources",
                median_ms(gpu,
                          [&] {
                            cortical_columns_sources(gpu, {d_selected, start, readers, d_sources});
                          }),
                selected + 2 * source_bytes);
  }
  const double together = median_ms(gpu, [&] {
    tiles([&](std::int64_t g, std::int64_t n) { synapses(g, n), forward(g, n); });
    tiles([&](std::int64_t g, std::int64_t n) { synapses(g, n), backward(g, n); });
  });
  fmt::print("{:14} {:22} {:8.3f} ms   (tiles of {} groups)\n", m.name, "forward + its return", together, tile);
}

int run() {
  CudaDevice gpu;
  Report report;
  const std::vector<ModuleShape> modules = {{"thalamus", 1024, 4, 64, {1024}, false, false},
                                            {"wernicke", 8192, 5, 96, {1024, 1024}, false, false},
                                            {"hippocampus", 4096, 5, 96, {8192, 1024}, false, false},
                                            {"basal_ganglia", 2048, 5, 96, {8192, 4096, 1024}, false, false},
                                            {"prefrontal", 8192, 5, 128, {8192, 4096}, true, true},
                                            {"broca", 8192, 5, 96, {8192, 8192, 4096, 1024, 1024}, true, false}};
  for (const ModuleShape& m : modules) bench(gpu, m, report);
  fmt::print("{:14} {:22} {:8.3f} ms   floor {:7.3f}\n", "all", "(forward once)", report.measured, report.floor);
  memory.clear();
  return 0;
}

}  // namespace
}  // namespace neurogen

int main(int count, char** arguments) {
  try {
    if (count > 1) neurogen::tile_bytes = 1e6 * std::atof(arguments[1]);
    return neurogen::run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_bench: {}\n", error.what());
    return 1;
  }
}

#include <utility>

#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/brain/synapses.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

// One source block: a range of columns of a source tensor.
template <typename Real>
struct Block {
  Real* data;  // at the first token
  std::int64_t row_stride;
};

template <typename Real>
Block<Real> find_block(const Sources& sources, std::int64_t column) {
  std::size_t i = 0;
  for (; column >= sources.outputs[i][1]; ++i) column -= sources.outputs[i][1];
  return {sources.outputs[i].as<Real>() + column, sources.outputs[i].row_stride};
}

// Checks the wiring before the work is spread over threads: find_block trusts its block.
void require_blocks(const Sources& sources, const TensorView& wiring, std::int64_t width) {
  std::int64_t blocks = 0;
  for (int i = 0; i < sources.count; ++i) blocks += sources.outputs[static_cast<std::size_t>(i)][1] / width;
  for (std::int64_t g = 0; g < wiring[0]; ++g)
    for (std::int64_t slot = 0; slot < wiring[1]; ++slot) {
      const std::int32_t block = wiring.as<const std::int32_t>()[g * wiring.row_stride + slot];
      require(block >= 0 && block < blocks, "synapses: the wiring names a source block that does not exist");
    }
}

template <typename Real, std::int64_t width>
NEUROGEN_CLONES void copy_block(const Real* from, std::int64_t from_stride, Real* to, std::int64_t to_stride, std::int64_t rows) {
  for (std::int64_t n = 0; n < rows; ++n)
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) to[n * to_stride + j] = from[n * from_stride + j];
}

// Gathers a column group's sources of `rows` tokens: panel [rows, F].
template <typename Real>
void gather(const Sources& sources, const std::int32_t* blocks, std::int64_t count, std::int64_t width, std::int64_t token,
            std::int64_t rows, Real* panel) {
  for (std::int64_t slot = 0; slot < count; ++slot) {
    const Block<const Real> block = find_block<const Real>(sources, blocks[slot] * width);
    const auto copy = width == 32 ? copy_block<Real, 32> : copy_block<Real, 16>;
    copy(block.data + token * block.row_stride, block.row_stride, panel + slot * width, count * width, rows);
  }
}

// A group's taps and biases: role r of output j at [r stride + j].
template <typename Real>
struct TapsOfGroup {
  const Real *now, *before, *bias;
  std::int64_t stride, bias_stride;

  TapsOfGroup(const Taps& taps, const TensorView& biases, std::int64_t roles, std::int64_t g)
      : now(taps.taps.as<const Real>() + g * kGroup),
        before(now + roles * taps.taps.row_stride),
        bias(biases ? biases.as<const Real>() + g * kGroup : nullptr),
        stride(taps.taps.row_stride),
        bias_stride(biases.row_stride) {}
};

// Turns the sums of a window's tokens [T, 32R] into currents, from the last token back. `state`: the sums before the first token,
// or null.
template <typename Real>
NEUROGEN_CLONES void apply_taps(const TapsOfGroup<Real>& taps, const std::int32_t* first, std::int64_t window, std::int64_t roles,
                                const Real* state, Real* sums) {
  for (std::int64_t t = window - 1; t >= 0; --t)
    for (std::int64_t r = 0; r < roles; ++r) {
      const Real *const now = taps.now + r * taps.stride, *const before = taps.before + r * taps.stride,
                        *const bias = taps.bias + r * taps.bias_stride;
      Real* const u = sums + (t * roles + r) * kGroup;
      const Real* const previous = first[t] < t ? u - roles * kGroup : state ? state + r * kGroup : nullptr;
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) u[j] = now[j] * u[j] + bias[j];
      if (!previous) continue;
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) u[j] += before[j] * previous[j];
    }
}

// From the gradient of a window's currents to that of the sums, [T, 32R].
template <typename Real>
NEUROGEN_CLONES void taps_backward(const TapsOfGroup<Real>& taps, const std::int32_t* first, std::int64_t window,
                                   std::int64_t roles, const Real* d_currents, Real* d_sums) {
  for (std::int64_t t = 0; t < window; ++t)
    for (std::int64_t r = 0; r < roles; ++r) {
      const Real *const now = taps.now + r * taps.stride, *const before = taps.before + r * taps.stride,
                        *const d = d_currents + (t * roles + r) * kGroup, *const d_next = d + roles * kGroup;
      Real* const d_s = d_sums + (t * roles + r) * kGroup;
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) d_s[j] = now[j] * d[j];
      if (t + 1 == window || first[t + 1] == t + 1) continue;
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) d_s[j] += before[j] * d_next[j];
    }
}

// Adds a window's sums to the gradients. Adds up each window before the totals, so that sections of a batch give the same bits as
// the whole.
template <typename Real>
NEUROGEN_CLONES void add_taps_gradient(const std::int32_t* first, std::int64_t window, std::int64_t roles, const Real* sums,
                                       const Real* d_currents, Real* d_taps, std::int64_t taps_stride, Real* d_bias,
                                       std::int64_t bias_stride) {
  for (std::int64_t r = 0; r < roles; ++r) {
    Real now[kGroup] = {}, before[kGroup] = {}, bias[kGroup] = {};
    for (std::int64_t t = 0; t < window; ++t) {
      const Real *const s = sums + (t * roles + r) * kGroup, *const d = d_currents + (t * roles + r) * kGroup,
                        *const d_next = d + roles * kGroup;
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) {
        now[j] += s[j] * d[j];
        bias[j] += d[j];
      }
      if (t + 1 == window || first[t + 1] == t + 1) continue;
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) before[j] += s[j] * d_next[j];
    }
    for (std::int64_t j = 0; j < kGroup; ++j) {
      d_taps[r * taps_stride + j] += now[j];
      d_taps[(roles + r) * taps_stride + j] += before[j];
      d_bias[r * bias_stride + j] += bias[j];
    }
  }
}

const std::int32_t* first_of(const Taps& taps, std::int64_t token) { return taps.first.as<const std::int32_t>() + token; }

struct Extents {
  std::int64_t groups, tokens, slots, fan_in, width, columns, roles, products, rows;

  Extents(const char* operation, const TensorView& weight, const TensorView& currents, std::int64_t slots_, const Taps& taps,
          std::int64_t rows_per_product)
      : groups(weight[0]),
        tokens(currents[1]),
        slots(slots_),
        fan_in(weight[1]),
        width(fan_in / std::max<std::int64_t>(slots, 1)),
        columns(weight[2]),
        roles(columns / kGroup),
        rows(rows_per_product) {
    const auto demand = [operation](bool condition, const char* sentence) {
      if (!condition) throw Error(fmt::format("{}: {}", operation, sentence));
    };
    demand((width == 32 || width == 16) && width * slots == fan_in, "source blocks must be 32 or 16 wide");
    demand(columns % kGroup == 0 && currents[2] == columns && currents[0] == groups, "weights and currents differ in shape");
    demand(rows > 0 && taps.window > 0 && rows % taps.window == 0 && tokens % taps.window == 0,
           "tokens and rows_per_product must be whole windows");
    demand(taps.taps[0] == 2 * roles && taps.taps[1] == groups * kGroup, "there must be two taps for every neuron");
    products = (tokens + rows - 1) / rows;
  }
  std::int64_t rows_of(std::int64_t product) const { return std::min(rows, tokens - product * rows); }
};

template <typename Real>
void forward(CpuDevice& device, const SynapsesForward& a) {
  const Extents x("synapses_forward", a.weight, a.currents, a.wiring[1], a.taps, a.rows_per_product);
  require_blocks(a.sources, a.wiring, x.width);
  require(!a.before || x.tokens == 1, "synapses_forward: only a single token continues from the one before it");
  device.parallel(x.groups * x.products, [&](std::int64_t item, int thread) {
    const std::int64_t g = item / x.products, token = item % x.products * x.rows, rows = x.rows_of(item % x.products);
    Real* const panel = a.scratch.as<Real>() + thread * a.scratch.row_stride;
    Real* const currents = a.currents.as<Real>() + g * a.currents.row_stride + token * x.columns;
    gather<Real>(a.sources, a.wiring.as<const std::int32_t>() + g * a.wiring.row_stride, x.slots, x.width, token, rows, panel);
    matmul_serial<Real>(Transpose::no, Transpose::no, rows, x.columns, x.fan_in, panel, x.fan_in,
                        a.weight.as<const Real>() + g * a.weight.row_stride, x.columns, Real(0), currents, x.columns);
    Real* const before = a.before ? a.before.as<Real>() + g * a.before.row_stride : nullptr;
    Real following[5 * kGroup];  // the next token's `before`
    if (before) std::copy_n(currents, x.columns, following);
    for (std::int64_t n = 0; n < rows; n += a.taps.window)
      apply_taps<Real>({a.taps, a.bias, x.roles, g}, first_of(a.taps, token + n), a.taps.window, x.roles, before,
                       currents + n * x.columns);
    if (before) std::copy_n(following, x.columns, before);
  });
}

template <typename Real>
void backward_weights(CpuDevice& device, const SynapsesBackwardWeights& a) {
  const Extents x("synapses_backward_weights", a.d_weight, a.d_currents, a.wiring[1], a.taps, a.rows_per_product);
  require_blocks(a.sources, a.wiring, x.width);
  device.parallel(x.groups, [&](std::int64_t g, int thread) {
    Real *const panel = a.scratch.as<Real>() + thread * a.scratch.row_stride,
                *const sums = panel + x.rows * x.fan_in;  // [rows, 32R]; then their gradient
    for (std::int64_t product = 0; product < x.products; ++product) {
      const std::int64_t token = product * x.rows, rows = x.rows_of(product);
      const Real* const d_currents = a.d_currents.as<const Real>() + g * a.d_currents.row_stride + token * x.columns;
      gather<Real>(a.sources, a.wiring.as<const std::int32_t>() + g * a.wiring.row_stride, x.slots, x.width, token, rows, panel);
      matmul_serial<Real>(Transpose::no, Transpose::no, rows, x.columns, x.fan_in, panel, x.fan_in,
                          a.weight.as<const Real>() + g * a.weight.row_stride, x.columns, Real(0), sums, x.columns);
      for (std::int64_t n = 0; n < rows; n += a.taps.window) {
        const std::int32_t* const first = first_of(a.taps, token + n);
        add_taps_gradient<Real>(first, a.taps.window, x.roles, sums + n * x.columns, d_currents + n * x.columns,
                                a.d_taps.as<Real>() + g * kGroup, a.d_taps.row_stride, a.d_bias.as<Real>() + g * kGroup,
                                a.d_bias.row_stride);
        taps_backward<Real>({a.taps, {}, x.roles, g}, first, a.taps.window, x.roles, d_currents + n * x.columns,
                            sums + n * x.columns);
      }
      matmul_serial<Real>(Transpose::yes, Transpose::no, x.fan_in, x.columns, rows, panel, x.fan_in, sums, x.columns, Real(1),
                          a.d_weight.as<Real>() + g * a.d_weight.row_stride, x.columns);
    }
  });
}

template <typename Real>
void backward_sources(CpuDevice& device, const SynapsesBackwardSources& a) {
  const std::int64_t slots = a.readers[0] / std::max<std::int64_t>(a.weight[0], 1), blocks = a.reader_start[0] - 1;
  const Extents x("synapses_backward_sources", a.weight, a.d_currents, slots, a.taps, a.rows_per_product);
  const std::int32_t* const start = a.reader_start.as<const std::int32_t>();
  device.parallel(blocks * x.products, [&](std::int64_t item, int thread) {
    const std::int64_t b = item / x.products, token = item % x.products * x.rows, rows = x.rows_of(item % x.products);
    const Block<Real> block = find_block<Real>(a.d_sources, b * x.width);
    Real* const d_sums = a.scratch.as<Real>() + thread * a.scratch.row_stride;
    for (std::int32_t i = start[b]; i < start[b + 1]; ++i) {
      const std::int64_t reader = a.readers.as<const std::int32_t>()[i], g = reader / x.slots, slot = reader % x.slots;
      const Real* const d_currents = a.d_currents.as<const Real>() + g * a.d_currents.row_stride + token * x.columns;
      for (std::int64_t n = 0; n < rows; n += a.taps.window)
        taps_backward<Real>({a.taps, {}, x.roles, g}, first_of(a.taps, token + n), a.taps.window, x.roles,
                            d_currents + n * x.columns, d_sums + n * x.columns);
      matmul_serial<Real>(Transpose::no, Transpose::yes, rows, x.width, x.columns, d_sums, x.columns,
                          a.weight.as<const Real>() + g * a.weight.row_stride + slot * x.width * x.columns, x.columns, Real(1),
                          block.data + token * block.row_stride, block.row_stride);
    }
  });
}

}  // namespace

std::int64_t synapses_scratch(std::int64_t per_token, std::int64_t rows_per_product) {
  return static_cast<std::int64_t>(multiply(static_cast<Bytes>(per_token), static_cast<Bytes>(rows_per_product)));
}

void synapses_forward(CpuDevice& device, const SynapsesForward& a) {
  require_type("synapses_forward", a.currents.dtype, {a.weight, a.taps.taps, a.bias, a.scratch, a.before, a.sources.outputs[0]});
  dispatch_real(a.currents.dtype, [&](auto zero) { forward<decltype(zero)>(device, a); });
}

void synapses_backward_weights(CpuDevice& device, const SynapsesBackwardWeights& a) {
  require_type("synapses_backward_weights", a.d_currents.dtype,
               {a.weight, a.taps.taps, a.d_weight, a.d_taps, a.d_bias, a.scratch, a.sources.outputs[0]});
  dispatch_real(a.d_currents.dtype, [&](auto zero) { backward_weights<decltype(zero)>(device, a); });
}

void synapses_backward_sources(CpuDevice& device, const SynapsesBackwardSources& a) {
  require_type("synapses_backward_sources", a.d_currents.dtype, {a.weight, a.taps.taps, a.scratch, a.d_sources.outputs[0]});
  dispatch_real(a.d_currents.dtype, [&](auto zero) { backward_sources<decltype(zero)>(device, a); });
}

// A counting sort with `start` as the cursor: start[b + 1] counts, then points at block b's next place, and so ends at the start of
// block b + 1.
void synapses_readers(CpuDevice&, const SynapsesReaders& a) {
  const std::int64_t blocks = a.reader_start[0] - 1, readers = a.wiring.elements();
  const std::int32_t* const wiring = a.wiring.as<const std::int32_t>();
  std::int32_t* const start = a.reader_start.as<std::int32_t>();
  std::fill_n(start, blocks + 1, 0);
  for (std::int64_t i = 0; i < readers; ++i) {
    require(wiring[i] >= 0 && wiring[i] < blocks, "synapses_readers: the wiring names a source block that does not exist");
    ++start[wiring[i] + 1];
  }
  std::int32_t position = 0;
  for (std::int64_t b = 0; b < blocks; ++b) position += std::exchange(start[b + 1], position);
  for (std::int64_t i = 0; i < readers; ++i) a.readers.as<std::int32_t>()[start[wiring[i] + 1]++] = static_cast<std::int32_t>(i);
}

}  // namespace neurogen

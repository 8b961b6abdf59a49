// The way back through a module's column groups: currents again, through norm, microcircuit and recurrence, then the
// gradients of weights (which stay in registers over all tokens) and of each slot's sources.
#include <cuda/barrier>

#include "kernels/cortical_columns_cuda.cuh"
#include "kernels/cuda_several.cuh"

#pragma nv_diag_suppress static_var_with_dynamic_init  // a cuda::barrier in shared memory, which init() makes

namespace neurogen {
namespace {

struct ColumnsBackward {
  ColumnsArguments forward;
  Columns<const Low> d_out_low;  // the decoder gives it in bf16,
  Columns<const float> d_out;    // the modules in f32
  const float *inverse_rms, *dot, *gain;
  Low* d_selected;  // [G K, N, width]
  float* d_weight;  // [G, F, 32R]
  float* d_bias;    // [R, 32G]
  std::int64_t d_bias_stride;
  float *d_retain, *d_gain;
  Columns<Low> d_residual;
  Columns<float> d_gate;
  int parts, first_window;
  bool residual_stored;
};

// One warp's part of the weights' gradient: every second 16 sources (or as many teams as there are), one role.
template <typename Group>
struct WeightGradient {
  static constexpr int kMostTiles = static_cast<int>(kColumnsMostFanIn) / 16 / Group::kTeams;
  static constexpr int kStep = 16 * Group::kTeams;
  const Group& x;
  float* const d_weight;
  unsigned rows, columns;  // in shared memory: of tile 0 of the sources, of tile 0 of the currents' gradients
  Accumulators<kMostTiles, 4> acc;

  __device__ WeightGradient(const Group& group, const Low* d_currents, float* d_weights) : x(group), d_weight(d_weights) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = warp % Group::kRoles * 32;
    const unsigned near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
    rows = shared_address(x.sources) + 2 * ((near + third) * static_cast<unsigned>(x.source_pitch) + warp / Group::kRoles * 16 + second);
    columns = shared_address(d_currents) + 2 * ((near + second) * Group::kPitch + column + third);
    each([](const float2& from, float& p, float& q) { p = from.x, q = from.y; });
  }
  __device__ void store() {
    each([](float2& to, float p, float q) { to = {p, q}; });
  }
  template <typename Body>
  __device__ void each(Body&& body) {
    const int warp = static_cast<int>(thread_again() / 32), first = warp / Group::kRoles * 16;
    float* const stored = d_weight + static_cast<std::int64_t>(x.group) * x.a.fan_in * Group::kColumns + warp % Group::kRoles * 32;
#pragma unroll
    for (int i = 0; i < kMostTiles; ++i)
      if (first + i * kStep < x.a.fan_in)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int e = 0; e < 4; e += 2)
            body(*reinterpret_cast<float2*>(stored + (first + i * kStep + row_of(0, e)) * Group::kColumns + column_of(j)), acc[i][j][e],
                 acc[i][j][e + 1]);
  }
  // += sources^T d_currents over a round's tokens.
  __device__ void add(int source_tile, int round_tile) {
    const unsigned pitch = 2 * static_cast<unsigned>(x.source_pitch);
    unsigned row = rows + static_cast<unsigned>(source_tile) * Group::kTokens * pitch;
    unsigned column = columns + 2 * static_cast<unsigned>(round_tile) * Group::kTokens * Group::kPitch;
#pragma unroll 1
    for (int k = 0; k < Group::kTokens; k += 16) {
      std::uint32_t left[4], right[4];
      load_matrices<true>(left, column);
      load_matrices<true>(right, column + 32);
#pragma unroll
      for (int i = 0; i < kMostTiles; ++i)
        if (i * kStep < x.a.fan_in) {
          std::uint32_t part[4];
          load_matrices<true>(part, row + 2 * i * kStep);
          multiply_add<Low>(acc[i][0], part, left[0], left[1]);
          multiply_add<Low>(acc[i][1], part, left[2], left[3]);
          multiply_add<Low>(acc[i][2], part, right[0], right[1]);
          multiply_add<Low>(acc[i][3], part, right[2], right[3]);
        }
      row += 16 * pitch, column += 2 * 16 * Group::kPitch;
    }
  }
};

// d_selected of a round and 16 sources = d_currents weight^T. The weights' rows are named so that a thread's accumulators are
// neighbouring sources: element e of tile j is source 4 q + 2 j + e.
template <typename Group>
struct SourcesGradient {
  static constexpr int kTiles = Group::kTokens / 16;
  unsigned rows, columns;  // in shared memory: of tile 0 of the currents' gradients, of the weights' first 16 rows

  __device__ SourcesGradient(const Group& x, const Low* d_currents) {
    const unsigned lane = threadIdx.x % 32, near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16;
    rows = shared_address(d_currents) + 2 * ((near + second) * Group::kPitch + third * 8);
    columns = shared_address(x.weight) + 2 * (static_cast<unsigned>(Group::weight_row(static_cast<int>(near / 2 * 4 + near % 2 + 2 * third))) + second);
  }
  // `to`: of these 16 sources (whose first row of weights is `first`) and the round's first token.
  __device__ void run(int round_tile, int first, int rows_left, int width, Low* to) const {
    unsigned row = rows + 2 * static_cast<unsigned>(round_tile) * Group::kTokens * Group::kPitch;
    unsigned column = columns + 2 * static_cast<unsigned>(Group::weight_row(first));
    Accumulators<kTiles, 2> acc;
    clear_accumulators<kTiles, 2>(acc);
#pragma unroll(Group::kCurrentTiles)  // in turn there are no registers for two
    for (int k = 0; k < Group::kColumns; k += 16) {
      std::uint32_t part[kTiles][4], other[4];
      load_matrices<false>(other, column);
#pragma unroll
      for (int i = 0; i < kTiles; ++i) load_matrices<false>(part[i], row + 2 * 16 * i * Group::kPitch);
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        multiply_add<Low>(acc[i][0], part[i], other[0], other[1]);
        multiply_add<Low>(acc[i][1], part[i], other[2], other[3]);
      }
      row += 32, column += 32;
    }
    const unsigned lane = thread_again() % 32, token = lane / 4;
    to += token * static_cast<unsigned>(width) + lane % 4 * 4;
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        if (static_cast<int>(token) + 16 * i + 4 * e < rows_left)
          store_four(to + (16 * i + 4 * e) * width, {acc[i][0][e], acc[i][0][e + 1], acc[i][1][e], acc[i][1][e + 1]});
  }
};

// The warps that scan are those behind the ones that multiply, and have a barrier of their own.
template <typename Group>
struct ScanWarps {
  static constexpr int kRun = Group::kRoles == 5 ? 8 : 4;  // a warp's tokens: as many registers as there are
  static constexpr int kWarps = Group::kTokens / kRun, kThreads = 32 * kWarps, kAll = Group::kThreads + kThreads;
  static __device__ unsigned thread() { return thread_again() - Group::kThreads; }
  static __device__ void synchronize() { asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory"); }

  // The state before this warp's run (in reverse: behind it), from all runs' maps and the state before the first (behind the
  // last) of them.
  template <bool reverse>
  static __device__ float entering(Map (&maps)[kWarps][kLanes], const Map& mine, float state) {
    const int lane = static_cast<int>(thread() % 32), warp = static_cast<int>(thread() / 32);
    maps[warp][lane] = mine;
    synchronize();
#pragma unroll 4
    for (int i = 0; i < (reverse ? kWarps - 1 - warp : warp); ++i) {
      const Map map = maps[reverse ? kWarps - 1 - i : i][lane];
      state = map.scale * state + map.shift;
    }
    return state;
  }
};

// What a scan reads of one round besides its currents, in shared memory.
template <typename Group>
struct RoundInputs {
  static constexpr int kTokens = Group::kTokens;
  static constexpr std::size_t kTokenBytes = sizeof(float) * (kLanes + 4) + 2 * sizeof(Low) * kLanes;  // openers are behind
  static_assert(kTokens == kCarryTokens);
  float *const d_outs, *const inverses, *const dots, *const states;  // d_outs: or bf16
  int* const firsts;
  Low *const residuals, *const d_residuals, *const openers;

  __device__ explicit RoundInputs(void* memory)
      : d_outs(static_cast<float*>(memory)), inverses(d_outs + kTokens * kLanes), dots(inverses + kTokens),
        states(dots + kTokens), firsts(reinterpret_cast<int*>(states + kLanes)), residuals(reinterpret_cast<Low*>(firsts + kTokens)),
        d_residuals(residuals + kTokens * kLanes), openers(d_residuals + kTokens * kLanes) {}

  template <bool gated>
  __device__ void load(const Group& x, const ColumnsBackward& b, int window, int begin) const {
    constexpr int kBy = ScanWarps<Group>::kThreads;
    const ColumnsArguments& a = b.forward;
    const unsigned thread = ScanWarps<Group>::thread();
    if (b.d_out.data) x.template load_outputs<kBy>(b.d_out, window, begin, d_outs, thread);
    else x.template load_outputs<kBy>(b.d_out_low, window, begin, reinterpret_cast<Low*>(d_outs), thread);
    if (a.residual.data) {
      x.template load_outputs<kBy>(a.residual, window, begin, residuals, thread);
      x.template load_outputs<kBy>(b.d_residual, window, begin, d_residuals, thread, !b.residual_stored);
    }
    if (thread < kTokens) {
      const int t = begin + static_cast<int>(thread), n = window * a.window + min(t, a.window - 1);
      copy_word_behind(inverses + thread, b.inverse_rms + n, t < a.window);
      copy_word_behind(dots + thread, b.dot + n);
      copy_word_behind(firsts + thread, a.first + n);
      copy_word_behind(states + thread, a.carried + (window * a.carries + begin / kCarryTokens) * a.carried_stride + x.column);
    }
    if (gated) x.template load_openers<kBy>(window, begin, openers, thread);
  }
};

// A block: one group, and of all windows each `parts`-th, counted from the batch's first. Its sums go to its part of the
// gradients. In one step some warps scan a round, which leaves its currents' gradients, while others multiply: the next
// round's currents, and the gradients that the round before left. With memory for one round only they take turns.
template <typename Group, bool gated>
__global__ void __launch_bounds__(ScanWarps<Group>::kAll, 1) backward_kernel(const ColumnsBackward b) {
#if __CUDA_ARCH__ >= 800
  using Scan = ScanWarps<Group>;
  constexpr int R = Group::kRoles, kRun = Scan::kRun, kTokens = Group::kTokens, kSums = R + 2;  // biases, retain, gain
  constexpr int kSources = Group::kSourceTiles, kRounds = Group::kCurrentTiles;
  __shared__ Map maps[2][Scan::kWarps][kLanes];
  // Where warps of both kinds meet: not __syncthreads, since they come from different places in the code.
  __shared__ cuda::barrier<cuda::thread_scope_block> meeting;
  if (threadIdx.x == 0) init(&meeting, Scan::kAll);  // seen by all behind the group's construction
  __shared__ float following[kLanes];  // f g of the token behind a round: what reaches its last state through the next
  const ColumnsArguments& a = b.forward;
  const int part = static_cast<int>(blockIdx.y), groups = static_cast<int>(gridDim.x);
  const Group x(a, static_cast<int>(blockIdx.x));
  const bool scans = x.warp >= Group::kWarps;
  Low* const d_currents = reinterpret_cast<Low*>(x.slots + a.slots);
  const auto inputs_of = [&](int tile) {
    unsigned char* const first = reinterpret_cast<unsigned char*>(d_currents + kRounds * kTokens * Group::kPitch);
    const std::size_t bytes = kTokens * (RoundInputs<Group>::kTokenBytes + sizeof(Low) * kVector<Low> * a.opener_vectors);
    return RoundInputs<Group>(first + tile * bytes);
  };

  // The rounds in the order in which they are taken: windows upwards, each from its end.
  struct Round {
    int window, begin;
  };
  __shared__ Round whereabouts[kSources];  // of the rounds whose sources are in memory: spares registers
  static_assert(sizeof maps + sizeof following + sizeof meeting + sizeof whereabouts <= kDeclaredBytes);
  const int last_begin = (a.window - 1) / kTokens * kTokens;
  const Round first{(part - b.first_window % b.parts + b.parts) % b.parts, last_begin};
  const int count = first.window < a.windows ? ((a.windows - 1 - first.window) / b.parts + 1) * (last_begin / kTokens + 1) : 0;
  const auto advance = [&](Round& round) {
    round.begin -= kTokens;
    if (round.begin < 0) round = {round.window + b.parts, last_begin};
  };

  if (!scans) {
    const int units = a.fan_in / 16;  // of the sources' gradient, a warp's each; warps without one load sources
    const typename Group::SourceLoader loader(x, units < Group::kWarps ? units : 0);
    const typename Group::CurrentsProduct make_currents(x);
    WeightGradient<Group> d_weight(x, d_currents, b.d_weight + static_cast<std::int64_t>(part) * groups * a.fan_in * Group::kColumns);
    const SourcesGradient<Group> d_sources(x, d_currents);
    const int width = 1 << a.width_bits;
    const std::int64_t tokens = static_cast<std::int64_t>(a.windows) * a.window;
    Low* const d_selected = b.d_selected + static_cast<std::int64_t>(x.group) * a.slots * tokens * width;
    Round loaded = first;
    const auto load = [&](int tile) {
      loader.load(a, loaded.window, loaded.begin, tile);
      if (thread_again() == 0) whereabouts[tile] = loaded;
      advance(loaded);
    };
    const auto take_gradients = [&](int source_tile, int round_tile) {
      d_weight.add(source_tile, round_tile);
      const Round taken = whereabouts[source_tile];
      const std::int64_t token = taken.window * a.window + taken.begin;
#pragma unroll 1
      for (int source = static_cast<int>(thread_again() / 32) * 16; source < a.fan_in; source += Group::kWarps * 16) {
        const int in_slot = source & (width - 1);
        d_sources.run(round_tile, source, a.window - taken.begin, width, d_selected + (source - in_slot) * tokens + token * width + in_slot);
      }
    };
    if constexpr (kRounds > 1) {
      if (count > 0) load(0);
      close_stage();
      await_stages<0>();
      meeting.arrive_and_wait();
#pragma unroll 1
      for (int i = 0; i < count + 2; ++i) {  // sources are loaded for round i + 1, currents made of round i, gradients taken of i - 2
        if (i + 1 < count) load((i + 1) % kSources);
        close_stage();
        if (i < count) make_currents.run(i % kSources, i % kRounds);
        if (i >= 2) take_gradients((i - 2) % kSources, (i - 2) % kRounds);
        await_stages<0>();
        meeting.arrive_and_wait();
      }
    } else
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        load(0);
        close_stage();
        await_stages<0>();
        meeting.arrive_and_wait();
        make_currents.run(0, 0);
        meeting.arrive_and_wait();
        meeting.arrive_and_wait();
        take_gradients(0, 0);
        meeting.arrive_and_wait();
      }
    d_weight.store();
    return;
  }

  const float gain = read(b.gain + x.column);
  const int opener = gated ? x.opener_of_lane() : 0;
  // Each total is one thread's, which adds to it window by window.
  const auto total_of = [&](int sum) {
    return (sum < R ? b.d_bias + (part * R + sum) * b.d_bias_stride : (sum == R ? b.d_retain : b.d_gain) + part * groups * kLanes) + x.column;
  };
  float sums[kSums] = {};
  Round scanned = first;
  const auto load = [&](int tile, Round round) { inputs_of(tile).template load<gated>(x, b, round.window, round.begin); };
  const auto scan = [&](int tile) {
    const RoundInputs<Group> in = inputs_of(tile);
    const int lane = static_cast<int>(Scan::thread() % 32), warp = static_cast<int>(Scan::thread() / 32);
    const int row = warp * kRun, round = scanned.begin, begin = round + row;
    const int token = scanned.window * a.window + begin;  // the first of this run
    float* const currents = x.current_tile(tile);
    // Tokens of the run that are inside the window. Those behind have a norm's factor of zero, hence only zeros as gradients.
    const int left = a.window - begin;
    float u[kRun][R];
#pragma unroll
    for (int k = 0; k < kRun; ++k)
#pragma unroll
      for (int r = 0; r < 2; ++r) u[k][r] = currents[(row + k) * Group::kPitch + r * kLanes + lane];
    unsigned starts = 0;  // bit k: token k begins a document
#pragma unroll
    for (int k = 0; k < kRun; ++k) starts |= in.firsts[row + k] == begin + k ? 1u << k : 0u;
    const float retain = read(a.retain + x.column), gate_bias = gated ? read(a.gate_bias + x.column / a.stripe) : 0.0f;
    Factors factors[kRun];
    Map map;
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      const float open = gated ? to_float(in.openers[(row + k) * a.opener_vectors * kVector<Low> + opener]) + gate_bias : 0.0f;
      factors[k].template compute<gated>(u[k][1], retain, open);
      if (starts >> k & 1) factors[k].forget = 0.0f;
      map.then(factors[k].forget, factors[k].input() * u[k][0]);
    }
    float h[kRun + 1];  // the state before a token, and behind the last
    h[0] = Scan::template entering<false>(maps[0], map, in.states[lane]);
    Low* const d_u = d_currents + (tile * kTokens + row) * Group::kPitch + lane;
    const auto give = [&](int k, int role, float gradient) {
      d_u[k * Group::kPitch + role * kLanes] = from_float<Low>(gradient);
      sums[role] += gradient;
    };
    float d[kRun], y[kRun];
    const int at = row * kLanes + lane;
    // A few tokens' operands are read before anything is written, so that no read waits for a write.
    constexpr int kFew = 4;  // as many as there are registers for
#pragma unroll
    for (int few = 0; few < kRun; few += kFew) {
#pragma unroll
      for (int k = few; k < few + kFew; ++k) {
#pragma unroll
        for (int r = 2; r < R; ++r) u[k][r] = currents[(row + k) * Group::kPitch + r * kLanes + lane];
        d[k] = b.d_out.data ? in.d_outs[at + k * kLanes] : to_float(reinterpret_cast<const Low*>(in.d_outs)[at + k * kLanes]);
        y[k] = a.residual.data ? to_float(in.residuals[at + k * kLanes]) : 0.0f;
      }
      // From the gradient of the norm's output to that of its input (rms_norm.h), with the output made again.
#pragma unroll
      for (int k = few; k < few + kFew; ++k) {
        h[k + 1] = factors[k].forget * h[k] + factors[k].input() * u[k][0];
        const float inverse = in.inverses[row + k], normed = (y[k] + output_of<R>(h[k + 1], u[k])) * inverse;
        sums[R + 1] += d[k] * normed;
        d[k] = inverse * (gain * d[k] - normed * in.dots[row + k]);
        if (a.residual.data && k < left) *b.d_residual.at(token + k, x.column) = from_float<Low>(to_float(in.d_residuals[at + k * kLanes]) + d[k]);
      }
#pragma unroll
      for (int k = few; k < few + kFew; ++k)
        y[k] = through_roles<R>(d[k], h[k + 1], u[k], [&](int role, float gradient) { give(k, role, gradient); });
    }
    map = {};
    // Through the recurrence: g_t = d_y_t + f_{t+1} g_{t+1}.
#pragma unroll
    for (int k = kRun - 1; k >= 0; --k) map.then(factors[k].forget, factors[k].forget * y[k]);
    float d_h = Scan::template entering<true>(maps[1], map, round == last_begin ? 0.0f : following[lane]);
#pragma unroll
    for (int k = kRun - 1; k >= 0; --k) {
      d_h += y[k];
      const float slope = d_h * ((starts >> k & 1 ? 0.0f : h[k]) - u[k][0]) * factors[k].raw;
      if constexpr (gated) {
        if (k < left) *b.d_gate.at(token + k, x.column) = -slope;
      }
      const float d_forget = slope * factors[k].open * (1.0f - factors[k].raw);
      give(k, 0, d_h * factors[k].input());
      give(k, 1, d_forget);
      sums[R] += d_forget;
      d_h *= factors[k].forget;
    }
    if (warp == 0) following[lane] = d_h;  // all have read what was there before their last barrier
    if (round > 0) return;
    Scan::synchronize();  // the window's sums pass through the currents' memory
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
      currents[(s * Scan::kWarps + warp) * kLanes + lane] = sums[s];
      sums[s] = 0.0f;
    }
    Scan::synchronize();
    for (int s = warp; s < kSums; s += Scan::kWarps) {
      float sum = 0.0f;
      for (int w = 0; w < Scan::kWarps; ++w) sum += currents[(s * Scan::kWarps + w) * kLanes + lane];
      *total_of(s) += sum;
    }
  };
  if constexpr (kRounds > 1) {
    await_stages<0>();
    meeting.arrive_and_wait();
#pragma unroll 1
    for (int i = 0; i < count + 2; ++i) {  // inputs are loaded for round i, round i - 1 is scanned
      if (i < count) {
        Round next = scanned;
        if (i > 0) advance(next);
        load(i % kRounds, next);
      }
      close_stage();
      if (i >= 1 && i <= count) scan((i - 1) % kRounds), advance(scanned);
      await_stages<0>();
      meeting.arrive_and_wait();
    }
  } else
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      load(0, scanned);
      close_stage();
      await_stages<0>();
      meeting.arrive_and_wait();
      meeting.arrive_and_wait();
      scan(0), advance(scanned);
      meeting.arrive_and_wait();
      meeting.arrive_and_wait();
    }
#endif
}

template <int R>
using RoundsBeside = ColumnGroup<R, kCarryTokens, 1, 4, 2>;  // sources of rounds before, now, next and then
template <int R>
using RoundsInTurn = ColumnGroup<R, kCarryTokens, 1>;

constexpr int kSumThreads = 256;
constexpr std::int64_t kSumPiece = 4 * kSumThreads;  // elements that a block adds up

struct Parts {
  const float* parts;
  int count;
  float* total;
  std::int64_t elements;
};

__global__ void sum_kernel(PieceTable<Parts> sums) {
  const auto [s, piece] = sums.mine();
  const std::int64_t i = piece * kSumPiece + 4 * threadIdx.x;
  if (i >= s.elements) return;
  float4 sum = load_four(s.parts + i);
  for (int p = 1; p < s.count; ++p) {
    const float4 part = load_four(s.parts + p * s.elements + i);
    sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
  }
  store_four(s.total + i, sum);
}

}  // namespace

void cortical_columns_backward(CudaDevice& device, const CorticalColumnsBackward& a) {
  require_f32("cortical_columns_backward: all but outputs' and slots' gradients is f32",
              {a.inverse_rms, a.dot, a.gain, a.d_weight, a.d_bias, a.d_retain, a.d_gain, a.d_gate});
  require_operands(a.d_out.dtype == DType::bf16 || a.d_out.dtype == DType::f32,
                   "cortical_columns_backward: the output's gradient is bf16 or f32");
  require_operands(!a.d_residual || a.d_residual.dtype == DType::bf16, "cortical_columns_backward: the residual's gradient is bf16");
  require_operands(a.d_selected.dtype == DType::bf16 && a.d_selected.contiguous() && a.d_weight.contiguous(),
                   "cortical_columns_backward: the slots' gradient is bf16, it and the weights' are contiguous");
  require_operands(a.parts > 0 && a.d_weight[0] == a.parts * a.columns.weight[0], "cortical_columns_backward: gradients in other parts");
  if (a.columns.first[0] == 0) return;
  const bool wide = a.d_out.dtype == DType::f32;
  const ColumnsBackward arguments{arguments_of(a.columns),
                                  Columns<const Low>(a.d_out),
                                  Columns<const float>(wide ? a.d_out : TensorView{}),
                                  a.inverse_rms.as<const float>(),
                                  a.dot.as<const float>(),
                                  a.gain.as<const float>(),
                                  a.d_selected.as<Low>(),
                                  a.d_weight.as<float>(),
                                  a.d_bias.as<float>(),
                                  a.d_bias.row_stride,
                                  a.d_retain.as<float>(),
                                  a.d_gain.as<float>(),
                                  Columns<Low>(a.d_residual),
                                  Columns<float>(a.d_gate),
                                  static_cast<int>(a.parts),
                                  static_cast<int>(a.first_window),
                                  a.residual_stored};
  const std::size_t per_token = sizeof(Low) * static_cast<std::size_t>(pitch_of<Low>(static_cast<int>(a.columns.weight[2]))) +
                                RoundInputs<RoundsInTurn<2>>::kTokenBytes;
  dispatch_columns<RoundsBeside, RoundsInTurn>(
      device, a.columns, per_token, [&]<typename Group>(std::type_identity<Group>, auto gated, std::size_t shared) {
        launch_with(device, "cortical_columns_backward", backward_kernel<Group, gated.value>,
                    dim3(static_cast<unsigned>(a.columns.weight[0]), static_cast<unsigned>(a.parts)), dim3(ScanWarps<Group>::kAll), shared,
                    arguments);
      });
}

void cortical_columns_sum(CudaDevice& device, const Several<CorticalColumnsSum>& all) {
  PieceTable<Parts> sums;
  for (const auto& [parts, total] : all) {
    require_f32("cortical_columns_sum: gradients are f32", {parts, total});
    const std::int64_t elements = total.elements();
    require_operands(total.contiguous() && parts.contiguous() && elements % 4 == 0 && parts.elements() % elements == 0,
                     "cortical_columns_sum: the parts are not whole totals");
    sums.add({parts.as<const float>(), static_cast<int>(parts.elements() / elements), total.as<float>(), elements}, pieces(elements, kSumPiece));
  }
  launch(device, "cortical_columns_sum", sum_kernel, dim3(sums.blocks), dim3(kSumThreads), 0, sums);
}

}  // namespace neurogen

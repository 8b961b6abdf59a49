// The scan of the columns' backward pass: through norm, microcircuit and recurrence of a round.
#pragma once
#include "kernels/brain/cortical_columns_warp.cuh"

namespace neurogen {

struct ColumnsBackward {
  ColumnsArguments forward;
  Columns<const Low> d_out;
  const float *inverse_rms, *dot, *gain;
  Low* d_selected;  // [G K, N, width]
  float* d_weight;  // [G, F, 32R]
  float* d_taps;    // [2R, 32G]
  std::int64_t d_taps_stride;
  float* d_bias;  // [R, 32G]
  std::int64_t d_bias_stride;
  float *d_retain, *d_gain;
  Columns<Low> d_residual, d_gate;
  int parts, first_window;
  bool residual_stored;
  int sums_tiles;
};

// A scanning warp's inputs for its round besides the sources, in shared memory.
struct RoundInputs {
  static constexpr std::size_t kTile = OutputTile::kBytes;
  static constexpr std::size_t kBytes = 3 * kTile + sizeof(float) * (3 * kRound + kWarpOutputs);  // openers follow
  const OutputTile d_outs, residuals, d_residuals;
  float *const inverses, *const dots, *const states;
  int* const firsts;  // after settle(): the factor kept of the state before a token, 0 if a document starts, else 1
  Low* const openers;

  __device__ explicit RoundInputs(unsigned char* memory)
      : d_outs(reinterpret_cast<Low*>(memory)),
        residuals(reinterpret_cast<Low*>(memory + kTile)),
        d_residuals(reinterpret_cast<Low*>(memory + 2 * kTile)),
        inverses(reinterpret_cast<float*>(memory + 3 * kTile)),
        dots(inverses + kRound),
        states(dots + kRound),
        firsts(reinterpret_cast<int*>(states + kWarpOutputs)),
        openers(reinterpret_cast<Low*>(firsts + kRound)) {}

  // Values that each lane computes from the loaded inputs for one token: the factor kept of the state before it, and the dot times
  // the square of its norm's factor. settle() replaces the token's first and dot by them, for the warp to read.
  struct Token {
    float keep, dot;
  };
  __device__ Token token(int begin) const {
    const int lane = static_cast<int>(thread_again() % 32);
    const float inverse = inverses[lane];
    return {firsts[lane] == begin + lane ? 0.0f : 1.0f, inverse * inverse * dots[lane]};
  }
  __device__ void settle(const Token& token) const {
    const unsigned lane = thread_again() % 32;
    reinterpret_cast<float*>(firsts)[lane] = token.keep;
    dots[lane] = token.dot;
    __syncwarp();
  }

  // Starts loading as a warp, for 16 outputs from `column` on. The norm's factor of tokens beyond the window's end becomes zero,
  // and with it all their gradients.
  template <bool gated, int R>
  __device__ void load(const GroupMemory<R>& x, const ColumnsBackward& b, int window, int begin, int column) const {
    const ColumnsArguments& a = x.a;
    d_outs.load(b.d_out, a, window, begin, column);
    if (a.residual.data) residuals.load(a.residual, a, window, begin, column);
    if (a.residual.data && !b.residual_stored) d_residuals.load(b.d_residual, a, window, begin, column);
    const int lane = static_cast<int>(thread_again() % 32), t = begin + lane, n = window * a.window + min(t, a.window - 1);
    copy_word_behind(inverses + lane, b.inverse_rms + n, t < a.window);
    copy_word_behind(dots + lane, b.dot + n);
    copy_word_behind(firsts + lane, a.first + n);
    if (lane < kWarpOutputs)
      copy_word_behind(states + lane, a.carried + (window * a.carries + begin / kRound) * a.carried_stride + column + lane);
    if (gated) x.load_openers(window, begin, openers);
  }
  __device__ const float* keeps() const { return reinterpret_cast<const float*>(firsts); }
};

// A warp's round in the backward pass: values of its tokens kept between forth(), which recomputes currents and states, and back(),
// which goes back through the recurrence. By side and k: the factors of the recurrence, and the factors by which a state's gradient
// is multiplied to give that of the gate (slope, negative) and of the forget factor's input (shut). y: gradient of the
// microcircuit's output through its state.
template <int R, bool gated>
struct RoundScan {
  // A gated token's forget factor is recomputed if there are no registers to keep it.
  static constexpr bool kMadeAgain = gated && R == 5;
  float forget[2][kQuadTokens], input[2][kQuadTokens], slope[2][kQuadTokens], shut[2][kQuadTokens], y[2][kQuadTokens];
  float kept[2];       // of a state, through all of the lane's tokens
  const float* keeps;  // from RoundInputs, for the lane's tokens

  __device__ float forgets(int side, int k) const {
    if constexpr (kMadeAgain) return keeps[k] - keeps[k] * input[side][k];
    else return forget[side][k];
  }

  // Turns a side's currents into gradients of roles 2 and up; returns its part of the gain's gradient. `output`: within the group.
  __device__ float forth(RoundCurrents<R>& u, unsigned side, const GroupMemory<R>& x, const RoundInputs& in, unsigned output,
                         float gain, bool residual_stored) {
    const ColumnsArguments& a = x.a;
    const unsigned lane = thread_again() % 32, first = lane % 4 * kQuadTokens;
    const float retain = x.retain[output], gate_bias = gated ? x.gate_bias[output] : 0.0f;
    const Low* opener = in.openers + first * a.opener_vectors * kVector<Low> + (gated ? x.opener[output] : 0);
    Map map;
#pragma unroll
    for (int k = 0; k < kQuadTokens; ++k) {
      Factors factors;
      factors.template compute<gated>(u.at(1, side, k), retain, gated ? to_float(*opener) + gate_bias : 0.0f);
      if constexpr (gated) opener += a.opener_vectors * kVector<Low>;
      if constexpr (!kMadeAgain) forget[side][k] = keeps[k] * factors.forget;
      input[side][k] = factors.input();
      slope[side][k] = factors.raw;
      if constexpr (gated) shut[side][k] = factors.open - factors.input();
      map.then(forgets(side, k), input[side][k] * u.at(0, side, k));
    }
    kept[side] = map.scale;
    float state = in.states[lane / 4 + 8 * side];
    QuadScan<false> tokens;
    tokens.compose(map);
    float h = tokens.enter(state);

    std::uint32_t d_out[kQuadTokens / 2], residual[kQuadTokens / 2] = {}, d_residual[kQuadTokens / 2];
    in.d_outs.read(d_out, side);
    if (a.residual.data) in.residuals.read(residual, side);
    float d_gain = 0.0f;
#pragma unroll
    for (int j = 0; j < kQuadTokens / 2; ++j) {
      float passed[2];  // for the residual
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int k = 2 * j + e;
        slope[side][k] *= keeps[k] * h - u.at(0, side, k);
        shut[side][k] = gated ? shut[side][k] * slope[side][k] : slope[side][k] - input[side][k] * slope[side][k];
        float now[R];
#pragma unroll
        for (int r = 0; r < R; ++r) now[r] = u.at(r, side, k);
        h = forgets(side, k) * h + input[side][k] * now[0];
        // From the gradient of the norm's output to that of its input (rms_norm.h), using the recomputed output.
        const float out = output_of<R>(h, now, element(residual, k)), scaled = in.inverses[first + k] * element(d_out, k);
        d_gain += scaled * out;
        const float d = gain * scaled - in.dots[first + k] * out;
        passed[e] = d;
        y[side][k] = through_roles<R>(d, h, now, [&](int role, float gradient) { u.at(role, side, k) = gradient; });
      }
      d_residual[j] = packed<Low>(passed[0], passed[1]);
    }
    if (!a.residual.data) return d_gain;
    if (!residual_stored) {
      std::uint32_t before[kQuadTokens / 2];
      in.d_residuals.read(before, side);
#pragma unroll
      for (int j = 0; j < kQuadTokens / 2; ++j) d_residual[j] = add_pairs(before[j], d_residual[j]);
    }
    in.d_residuals.write(d_residual, side);
    return d_gain;
  }

  // The recurrence of a side's gradient, g_t = d_y_t + f_{t+1} g_{t+1}, as the map from f g after the lane's last token to that of
  // its first.
  __device__ Map recurrence(int side) const {
    float g = y[side][kQuadTokens - 1];
#pragma unroll
    for (int k = kQuadTokens - 1; k > 0; --k) g = forgets(side, k) * g + y[side][k - 1];
    return {kept[side], forgets(side, 0) * g};
  }
  // Goes back through it, from each side's d_h, which comes from after the lane's last token, to the gradients of the first two
  // roles. d_gate: at the lane's last token and side 0.
  __device__ void back(float (&d_h)[2], float (&d_input)[2][kQuadTokens], float (&d_forget)[2][kQuadTokens], Low* d_gate,
                       std::int64_t gate_stride, int tokens_left) const {
#pragma unroll
    for (int k = kQuadTokens - 1; k >= 0; --k) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        d_h[side] += y[side][k];
        if (gated && k < tokens_left) d_gate[8 * side] = from_float<Low>(-d_h[side] * slope[side][k]);
        d_input[side][k] = d_h[side] * input[side][k];
        d_forget[side][k] = d_h[side] * shut[side][k];
        d_h[side] *= forgets(side, k);
      }
      if constexpr (gated) d_gate -= gate_stride;
    }
  }
};

}  // namespace neurogen

// The blocks of a transformer: their parameters, forward pass, backward pass and single tokens. Names and shapes, [out, in]:
//   embedding.weight [V, D], positions.weight [context, D], then of layer l with the prefix "layers.l.": attention_norm.gain (and
//   .bias) [D], query.weight [H d, D], key.weight and value.weight [K d, D], attention_output.weight [D, H d], mlp_norm.gain [D],
//   gate.weight and up.weight [I, D], down.weight [D, I]; final_norm.gain [D]; a matrix' bias, .bias [out], follows it
#pragma once
#include <vector>

#include "engine/model/trunk.h"
#include "engine/transformer/architecture.h"
#include "kernels/causal_attention.h"
#include "kernels/matmul.h"

namespace neurogen {

class TransformerTrunk final : public Trunk {
 public:
  TransformerTrunk(const TransformerShape& shape, Assembly& assembly);

  void declare_parameters() override;
  TensorId forward(const Batch& batch, const std::string& prefix, bool training) override;
  void backward(TensorId d_features) override;
  TensorId step(const std::string& prefix, std::int64_t ring) override;

 private:
  struct NormIds {
    ParameterId gain = 0, bias = 0;
  };
  struct LinearIds {
    ParameterId weight = 0, bias = 0;
    bool biased = false;
  };
  struct LayerIds {
    NormIds attention_norm, mlp_norm;
    LinearIds query, key, value, attention_output, gate, up, down;
  };
  // Kept for a norm's backward pass.
  struct NormState {
    TensorId y, mean, inverse;  // [N, D], [N], [N]
  };
  struct LayerState {
    NormState attention_norm, mlp_norm;
    TensorId qkv, inverse, mixed, log_sum_exp;  // [N, (H + 2K) d], [N, H + K], [N, H d], [H, N]
    TensorId up, gate;                          // [N, I]
  };
  // The residual stream before its next norm: x + branch + branch's bias.
  struct Stream {
    TensorId x, branch;  // [N, D]; the branch is empty at first
    LinearIds of;        // the matrix that made the branch
  };
  struct Columns {  // of a matrix
    TensorId id;
    std::int64_t begin, count;
  };
  struct QkvColumns {
    Columns query, key, value;
  };

  // trunk.cpp
  NormIds declare_norm(const std::string& name);
  LinearIds declare_linear(const std::string& name, std::int64_t out, std::int64_t in, double deviation, bool bias);
  TensorId bias_of(const LinearIds& linear) const { return linear.biased ? s_.value(linear.bias) : TensorId{}; }
  TensorId bias_of(const NormIds& norm) const { return shape_.norm == Norm::layer ? s_.value(norm.bias) : TensorId{}; }
  TensorId d_bias_of(const LinearIds& linear) { return linear.biased ? s_.declare_gradient(linear.bias) : TensorId{}; }
  // c = op(a) op(b) + beta c
  void multiply(const std::string& name, Columns a, Transpose transpose_a, Columns b, Transpose transpose_b, Columns c,
                double beta);
  Columns whole(TensorId id) const;
  Columns weights(const std::string& product, const LinearIds& linear) { return whole(s_.operand(product, linear.weight)); }
  QkvColumns parts_of(TensorId qkv) const;
  std::int64_t tokens() const { return s_.options.tokens(); }

  // forward.cpp
  TensorId embed(const Batch& batch, const std::string& prefix);
  TensorId normed(const std::string& name, const NormIds& norm, Stream& stream, bool keep, NormState& state);
  void attend(const std::string& name, const LayerIds& ids, TensorId normed, LayerState& state, Stream& stream);
  void attention(const std::string& name, LayerState& state);
  void hidden(const std::string& name, const LayerIds& ids, TensorId normed, LayerState& state);
  void mlp(const std::string& name, const LayerIds& ids, LayerState& state, Stream& stream, bool keep);

  // backward.cpp
  // The gradient of the stream, and its copy in the type of products (the same tensor if it has that type).
  struct StreamGradient {
    TensorId d_y, d_branch;
  };
  void norm_backward(const std::string& name, const NormIds& norm, const NormState& state, TensorId d_out, bool first, bool again,
                     const LinearIds* branch);
  // The gradient of a matrix, d_out^T in, of y = in W^T.
  void weight_gradient(const std::string& name, const LinearIds& linear, Columns d_out, TensorId in);
  bool computed_twice(std::size_t layer) const { return static_cast<std::int64_t>(layer) < s_.options.schedule.computed_twice; }
  void compute_again(std::size_t layer);
  void mlp_backward(std::size_t layer);
  void attention_backward(std::size_t layer);
  void embedding_backward();

  Assembly& s_;
  const TransformerShape& shape_;
  const bool adamw_;
  ParameterId embedding_ = 0, positions_ = 0;
  std::vector<LayerIds> layers_;
  NormIds final_norm_;

  TensorId first_, table_;  // of the latest forward pass: [N] i32; [T, d], empty without rotary positions
  struct {
    TensorId ids, places, out, inverse;
  } embedded_;
  std::vector<LayerState> kept_;
  NormState final_state_;
  StreamGradient d_stream_;

  bool evaluating_ = false;
  std::int64_t ring_ = 0;  // tokens in a stream's ring; 0: not a stream
  TensorId position_;      // [2] i64
};

}  // namespace neurogen

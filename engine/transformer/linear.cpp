// Matrices of the blocks and their adapters (Lora, engine/model/options.h): y = x W^T + scale (x A^T) B^T.
#include "engine/transformer/trunk.h"

namespace neurogen {

// scale x op(matrix), of few columns: the width between A and B.
TransformerTrunk::Columns TransformerTrunk::low_rank(const std::string& name, Columns x, Transpose transpose, ParameterId matrix,
                                                     double scale) {
  const TensorId t = s_.graph.transient(name, s_.compute, {tokens(), s_.options.lora.rank});
  multiply(name, x, Transpose::no, weights(name, matrix), transpose, whole(t), 0, scale);
  return whole(t);
}

void TransformerTrunk::linear(const std::string& name, const LinearIds& of, Columns in, Columns out) {
  multiply(name, in, Transpose::no, weights(name, of.weight), Transpose::yes, out, 0);
  const auto [a, b] = adapter_of(of);
  if (a == 0) return;
  const Columns t = low_rank(name + ".lora_a", in, Transpose::yes, a, s_.options.lora.scale());
  multiply(name + ".lora_b", t, Transpose::no, weights(name + ".lora_b", b), Transpose::yes, out, 1);
}

void TransformerTrunk::linear_backward(const std::string& name, const LinearIds& of, Columns d_out, Columns d_in, double beta) {
  multiply(name, d_out, Transpose::no, weights(name, of.weight), Transpose::no, d_in, beta);
  const auto [a, b] = adapter_of(of);
  if (a == 0) return;
  const Columns d_t = low_rank(name + ".lora_b", d_out, Transpose::no, b, s_.options.lora.scale());
  multiply(name + ".lora_a", d_t, Transpose::no, weights(name + ".lora_a", a), Transpose::no, d_in, 1);
}

// An adapter's products of few columns are computed again rather than kept.
void TransformerTrunk::weight_gradient(const std::string& name, const LinearIds& of, Columns d_out, TensorId in) {
  if (const TensorId gradient = s_.declare_gradient(of.weight))
    multiply(name, d_out, Transpose::yes, whole(in), Transpose::no, whole(gradient), 0);
  const auto [a, b] = adapter_of(of);
  if (a == 0) return;
  const double scale = s_.options.lora.scale();
  const Columns t = low_rank(name + ".lora_t", whole(in), Transpose::yes, a, scale);
  multiply(name + ".lora_b", d_out, Transpose::yes, t, Transpose::no, whole(s_.declare_gradient(b)), 0);
  const Columns d_t = low_rank(name + ".lora_d_t", d_out, Transpose::no, b, scale);
  multiply(name + ".lora_a", d_t, Transpose::yes, whole(in), Transpose::no, whole(s_.declare_gradient(a)), 0);
}

}  // namespace neurogen

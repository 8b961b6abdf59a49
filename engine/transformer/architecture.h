// The architecture of a decoder-only transformer. Its choices span GPT-2 (Radford et al. 2019), Llama (Touvron et al. 2023,
// arXiv:2302.13971), Qwen2, and the modern one that learns fastest from scratch.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/family.h"
#include "kernels/activation.h"
#include "kernels/residual_norm.h"

namespace neurogen {

// The keys of an architecture file. JSON with "family": "transformer"; see schemas/presets/gpt2.json.
struct TransformerShape {
  std::string name;
  std::int64_t vocabulary = 0;       // V, tokens
  std::int64_t width = 0;            // D, of the residual stream
  std::int64_t layers = 0;           // L, blocks of attention and a hidden layer
  std::int64_t heads = 0;            // H, of queries, D / H wide
  std::int64_t key_value_heads = 0;  // K, of keys and values; divides H. Default: H
  std::int64_t hidden = 0;           // I, width of the hidden layer
  std::int64_t context = 0;          // tokens that the model was made for; learned positions have no more
  Norm norm = Norm::rms;
  bool rotary = true;                         // positions: "rotary", or "learned"
  double rotary_theta = 10000;                // kernels/heads.h
  Activation activation = Activation::relu2;  // of the hidden layer
  bool qk_norm = false;                       // norm of queries and keys
  bool qkv_bias = false, bias = false;        // of queries, keys and values; of the other matrices
  bool tied = false;                          // the decoder is the embedding
  bool embedding_norm = false;                // norm of the embedding, without gain
  double norm_eps = 1e-5;                     // of all norms
  double softcap = 0;                         // bound of the logits, by tanh; 0: none

  std::int64_t head_width() const { return width / heads; }
  std::int64_t key_width() const { return key_value_heads * head_width(); }
  std::int64_t qkv_width() const { return width + 2 * key_width(); }
  bool gated() const { return activation == Activation::silu_gated; }
  // Number of weights in matrices, the decoder's included: each token is multiplied with all of them.
  std::int64_t weights() const { return layers * width * (width + qkv_width() + (gated() ? 3 : 2) * hidden) + vocabulary * width; }
  std::int64_t parameters() const;
};

class TransformerArchitecture final : public Architecture {
 public:
  explicit TransformerArchitecture(TransformerShape shape) : shape_(std::move(shape)) {}

  const TransformerShape& shape() const { return shape_; }

  std::string_view family() const override { return "transformer"; }
  const std::string& name() const override { return shape_.name; }
  std::int64_t vocabulary() const override { return shape_.vocabulary; }
  std::int64_t features() const override { return shape_.width; }
  double softcap() const override { return shape_.softcap; }
  bool tied() const override { return shape_.tied; }
  std::int64_t most_streams() const override { return 1024; }
  std::int64_t context() const override;
  std::int64_t blocks() const override { return shape_.layers; }
  std::vector<Optimizer> optimizers() const override;
  Rates rates(Optimizer optimizer) const override;
  std::vector<std::string> adaptable() const override;                       // q, k, v, o, gate, up, down
  std::string huggingface_module(const std::string& matrix) const override;  // of Llama's and Qwen2's layout
  std::vector<Count> counts() const override;
  std::int64_t weights() const override { return shape_.weights(); }
  std::string json() const override;
  std::unique_ptr<Trunk> trunk(Assembly& assembly) const override;
  ArchitecturePtr in_proportion(std::int64_t units) const override;

 private:
  TransformerShape shape_;
};

// Throws Error that begins with `where` and names the key.
TransformerShape parse_transformer(std::string_view json, const std::string& where);
std::string to_json(const TransformerShape& shape);
Family transformer_family();  // with its presets

}  // namespace neurogen

// Softmax and cross entropy over a vocabulary that arrives in tiles: a running maximum and sum (Milakov & Gimelshein 2018,
// arXiv:1805.02867), so that the logits of all tiles never exist at once.
//   loss of a token = log(sum exp(logits)) - logits[target], nats;   d_logits = (softmax - onehot) / counted tokens * loss scale
// A target of -1 is ignored: no loss, no gradient.
//
// Where the gradient of the decoder is gathered, logits arrive in parts of whole rows instead: the counted targets first, then for
// each part statistics and gradient at once, so that no logit is computed twice; the loss last.
//
// With a softcap the logits are l = softcap tanh(z / softcap) (Gemma 2, arXiv:2408.00118) of the decoder's products z, and d_z =
// d_l (1 - (l / softcap)^2). Memory holds z, in 16 bits where products are: l is computed from it in every pass, in float32, so
// that it is neither rounded nor written a second time.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/step_control.h"

namespace neurogen {

// On a GPU, rows of logits begin at multiples of 4 elements.

// Runs for each tile of the vocabulary in turn.
struct SoftmaxStatistics {
  TensorView logits;             // [N, tile] z, rows may be strided
  TensorView targets;            // [N] i32
  std::int64_t first_token = 0;  // the tile's first vocabulary id; 0 resets the running values
  TensorView maximum, sum;       // [N]: running values; sum is of exp(logit - maximum)
  TensorView target_logit;       // [N], written by the tile that contains the target
  double softcap = 0;            // 0: none
};

// Runs after the last tile.
struct CrossEntropyLoss {
  TensorView maximum, sum, target_logit, targets;
  TensorView log_sum_exp;  // out [N]
  TensorView loss;         // out [N]: nats, 0 for a target of -1
  TensorView total;        // out [2] f64: sum of losses (in token order), number of counted tokens
};

struct CrossEntropyBackward {
  TensorView logits;  // in [N, tile] z, out d_z in place
  TensorView targets, log_sum_exp, total;
  std::int64_t first_token = 0;
  TensorView control{};  // StepControl: the loss scale; empty: 1
  double softcap = 0;
};

// Runs before the first part of whole rows.
struct CountTargets {
  TensorView targets;  // [N] i32
  TensorView total;    // out [2] f64: 0, number of targets that are not -1
};

// SoftmaxStatistics and CrossEntropyBackward of whole rows.
struct CrossEntropyRows {
  TensorView logits;                      // in [n, V] z, out d_z in place
  TensorView targets;                     // [n] i32
  TensorView total;                       // [2] f64: number of counted targets of the batch, of which these are a part
  TensorView maximum, sum, target_logit;  // out [n]
  TensorView control{};                   // as CrossEntropyBackward's
  double softcap = 0;
};

// Caps logits in place, for those who read them.
struct SoftcapLogits {
  TensorView logits;  // [N, V] of float32 or float64
  double softcap = 0;
};

// The likeliest tokens, to count correct predictions; runs for each tile in turn. Among equal logits, lower ids come first. A
// softcap changes no order.
inline constexpr std::int64_t kLikeliest = 5;
struct LikeliestTokens {
  TensorView logits;             // [N, tile], rows may be strided
  std::int64_t first_token = 0;  // as in SoftmaxStatistics
  TensorView logit, token;       // [N, 5], [N, 5] i32: the likeliest so far, in order; -inf and -1 while there are fewer tokens
};

// Runs after the last tile.
struct CountHits {
  TensorView token;    // [N, 5] i32
  TensorView targets;  // [N] i32
  TensorView hits;     // out [2] f64: targets that are the likeliest token, targets among the five likeliest
};

void softmax_statistics(CpuDevice& device, const SoftmaxStatistics& arguments);
void cross_entropy_loss(CpuDevice& device, const CrossEntropyLoss& arguments);
void cross_entropy_backward(CpuDevice& device, const CrossEntropyBackward& arguments);
void count_targets(CpuDevice& device, const CountTargets& arguments);
void cross_entropy_rows(CpuDevice& device, const CrossEntropyRows& arguments);
void softcap_logits(CpuDevice& device, const SoftcapLogits& arguments);
void likeliest_tokens(CpuDevice& device, const LikeliestTokens& arguments);
void count_hits(CpuDevice& device, const CountHits& arguments);
void softmax_statistics(CudaDevice& device, const SoftmaxStatistics& arguments);
void cross_entropy_loss(CudaDevice& device, const CrossEntropyLoss& arguments);
void cross_entropy_backward(CudaDevice& device, const CrossEntropyBackward& arguments);
void count_targets(CudaDevice& device, const CountTargets& arguments);
void cross_entropy_rows(CudaDevice& device, const CrossEntropyRows& arguments);
void softcap_logits(CudaDevice& device, const SoftcapLogits& arguments);
void likeliest_tokens(CudaDevice& device, const LikeliestTokens& arguments);
void count_hits(CudaDevice& device, const CountHits& arguments);

}  // namespace neurogen

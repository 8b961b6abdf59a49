// How a model's graph is built, besides its architecture: the shape of a step, types, the recipe and the schedule.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "arena/tensor_view.h"
#include "neurogen/settings.h"

namespace neurogen {

// How much is kept and how much is recomputed. Decides how much memory a step needs, not what it computes: all schedules give the
// same bits, except that 16-bit types differ with and without kept logits.
struct Schedule {
  bool keep_logits = true;          // false: the head's logits are recomputed for their gradient
  std::int64_t sections = 1;        // parts of the batch in which the forward and backward passes run
  Bytes tile_bytes = 16'000'000;    // approximate size of what a family computes at once, such as a brain's currents
  std::int64_t computed_twice = 0;  // of a model's blocks, the first: only their inputs are kept for the backward pass
};

// What the graph is for.
struct Target {
  bool gpu = false;
  std::int64_t threads = 1;  // of a CPU; each needs scratch of its own
  Bytes workspace = 0;       // for the matrix library of a GPU
  Bytes nccl = 0;            // that NCCL takes at most, with several ranks on GPUs
};

// Adapters of low rank beside frozen matrices (Hu et al. 2021, arXiv:2106.09685): y = x W^T + alpha / rank (x A^T) B^T, A [rank,
// in], B [out, rank]. They alone are trained, by AdamW.
struct Lora {
  std::int64_t rank = 0;  // 0: none
  double alpha = 0;
  std::vector<std::string> targets{};  // matrices that have one, by Architecture::adaptable's names
  double scale() const { return alpha / static_cast<double>(rank); }
};

struct StepOptions {
  std::int64_t batch = 32, window = 256;  // B sequences of T tokens
  std::int64_t accumulate = 1;            // K of these, micro-batches, make a step
  std::int64_t ranks = 1;                 // processes that train together, each on K micro-batches of a step
  DType compute = DType::f32;             // activations and products: f32, bf16, f16; f64 for checks
  DType decoder_storage = DType::f32;     // f32, bf16, f16; f64 with f64
  bool int8_logits = false;               // with 16 bits: where logits are kept, by products in 8 bits (kernels/int8_logits.h)
  std::int64_t vocabulary_tile = 1280;    // rows of the decoder updated together
  Bytes logits_part = 105'000'000;        // most logits at once where the decoder's gradient is gathered (head.h)
  std::int64_t document_end = -1;         // token that ends a document, -1: none
  Target target;
  Optimizer optimizer = Optimizer::muon;
  // How matrices and tables are kept, if AdamW updates all parameters: in 16 bits, read by the products themselves; with moments of
  // 8 bits; and updated as soon as their gradients are known, so that few gradients live at a time.
  bool narrow_weights = false, narrow_moments = false, early_updates = false;
  Lora lora;
  bool loss_scaling = false;                // always on with f16 (loss_scale.h), optional with other types
  double synapse_decay = 0.05, clip = 1.0;  // Muon's weight decay, limit of the gradient norm
  Schedule schedule;
  std::int64_t streams = 1;  // build_stream: texts that go on at once, each by a token a step
  bool stream = false;       // build_training: also the program that takes one token at a time, on the same parameters

  std::int64_t tokens() const { return batch * window; }
  // A step's, on all ranks together.
  std::int64_t step_sequences() const { return ranks * accumulate * batch; }
  std::int64_t step_tokens() const { return ranks * accumulate * tokens(); }
  // The first of the step's sequences that make micro-batch k of a rank: their order depends on the batch of all ranks alone.
  std::int64_t first_sequence(std::int64_t rank, std::int64_t k) const { return (k * ranks + rank) * batch; }
  bool scaled() const { return loss_scaling || compute == DType::f16; }
  // Parameters, gradients and sums: float32, or float64 in a float64 model.
  DType real() const { return compute == DType::f64 ? DType::f64 : DType::f32; }
  DType narrow() const { return compute == DType::f16 ? DType::f16 : DType::bf16; }
};

}  // namespace neurogen

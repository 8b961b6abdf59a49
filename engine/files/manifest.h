// The manifest of a checkpoint (schemas/checkpoint.fbs): architecture, options, text, progress. Built once, then changed in place,
// so that saving allocates nothing. Nothing in a file is trusted.
#pragma once
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "arena/plan.h"
#include "neurogen/recipe.h"

namespace neurogen {

inline constexpr std::size_t kLargestManifest = 16 << 20;  // a tokenizer of 151,665 pieces takes 5 MB
inline constexpr std::uint32_t kCheckpointVersion = 2;

struct TextIdentity {
  std::int64_t tokens = 0;
  std::uint64_t hash = 0;  // Tokens::hash()
  std::vector<std::int64_t> weights{};
  bool operator==(const TextIdentity&) const = default;
};

// The part that differs between checkpoints of a run, besides the tensors.
struct Standing {
  std::int64_t steps = 0;                                           // done
  std::int64_t schedule_steps = 0;                                  // of the whole run, 0: not yet known
  double held_out_loss = std::numeric_limits<double>::quiet_NaN();  // after these steps, NaN if not measured
};

// What decides a step's arithmetic, besides the architecture.
struct SavedOptions {
  std::int64_t batch = 1, window = 1, accumulate = 1;
  std::int64_t vocabulary_tile = 1;
  std::int64_t document_end = -1;
  DType compute = DType::f32, decoder_storage = DType::f32;
  bool keep_logits = true;
  double synapse_decay = 0, clip = 0;
  std::uint8_t optimizer = 0;  // an engine/model/options.h Optimizer
  bool int8_logits = false, narrow_weights = false, narrow_moments = false, early_updates = false;
};

// Adapters beside frozen weights, which are not in the file.
struct SavedAdapters {
  std::int64_t rank = 0;  // 0: the file has all weights
  double alpha = 0;
  std::string targets{};        // "q,k,v"
  std::string base{};           // file of the frozen weights
  std::uint64_t base_hash = 0;  // of that file
};

struct Manifest {
  std::string architecture;  // JSON, which whoever loads the file parses
  SavedOptions options;
  SavedAdapters adapters{};
  Rates rates;  // all are set
  std::uint64_t seed = 0;
  std::int64_t steps_per_epoch = 1;
  TextIdentity text;
  std::uint64_t tokenizer = 0;    // Tokenizer::hash(), 0: none
  std::string tokenizer_model{};  // Tokenizer::model(), empty: none
  Standing standing;
  std::vector<Buffer> tensors;             // persistent, in order: name, type, shape, bytes, offset
  std::size_t weights = 0;                 // the first of them, which are all that inference needs
  std::vector<std::uint64_t> checksums{};  // XXH3-64, one per tensor
};

// The tensors of a plan that checkpoints hold.
std::vector<Buffer> persistent_buffers(const Plan& plan);
Bytes image_bytes(std::span<const Buffer> tensors);                // end of the last tensor's rounded size
Bytes next_begin(std::span<const Buffer> tensors, std::size_t i);  // start of the tensor after tensor i, or end of the image

// Includes the size prefix. Throws Error if decode_manifest would refuse the result.
std::vector<std::byte> encode_manifest(const Manifest& manifest);
// Updates an encoded manifest in place. Allocates nothing.
void update_manifest(std::span<std::byte> encoded, std::int64_t steps_per_epoch, const Standing& standing,
                     std::span<const std::uint64_t> checksums);
// Throws Error, beginning with `path`, for anything that encode_manifest would not have written. Tensors follow each other without
// overlaps and gaps, in any order, each of a size that its type and shape give. Whether they are those of a model is for whoever
// loads them to compare with its plan.
Manifest decode_manifest(std::span<const std::byte> encoded, const std::string& path);

}  // namespace neurogen

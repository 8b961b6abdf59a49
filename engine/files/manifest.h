// The manifest of a checkpoint (schemas/checkpoint.fbs): architecture, options, text, progress. Built once, then changed in place,
// so that saving allocates nothing. Nothing in a file is trusted.
#pragma once
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "arena/plan.h"
#include "engine/api/neurogen/recipe.h"
#include "engine/brain/architecture.h"
#include "engine/brain/options.h"

namespace neurogen {

inline constexpr std::size_t kLargestManifest = 4 << 20;  // a tokenizer of 65,536 pieces takes 1.5 MB
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

struct Manifest {
  Architecture architecture;
  BrainOptions options;  // without threads and workspace; of the schedule only keep_logits
  Rates rates;
  std::uint64_t seed = 0;
  std::int64_t steps_per_epoch = 1;
  TextIdentity text;
  std::uint64_t tokenizer = 0;    // Tokenizer::hash(), 0: none
  std::string tokenizer_model{};  // Tokenizer::model(), empty: none
  Standing standing;
  std::vector<Buffer> tensors;           // persistent_layout(); when decoded, with the file's offsets
  std::vector<std::uint64_t> checksums;  // XXH3-64, one per tensor
};

// The persistent tensors of a brain, placed as in every plan of it, whatever the batch, budget or device. Parameters and wiring,
// which generation needs, come first.
std::vector<Buffer> persistent_layout(const Architecture& architecture, DType compute, DType decoder_storage);
std::size_t parameters_and_wiring(const Architecture& architecture);  // number of parameters and wiring tensors
Bytes image_bytes(std::span<const Buffer> tensors);                   // end of the last tensor's rounded size
Bytes next_begin(std::span<const Buffer> tensors, std::size_t i);     // start of the tensor after tensor i, or end of the image

// Includes the size prefix. Throws Error if decode_manifest would refuse the result.
std::vector<std::byte> encode_manifest(const Manifest& manifest);
// Updates an encoded manifest in place. Allocates nothing.
void update_manifest(std::span<std::byte> encoded, std::int64_t steps_per_epoch, const Standing& standing,
                     std::span<const std::uint64_t> checksums);
// Throws Error, beginning with `path`, for anything that encode_manifest would not have written. The tensors are recomputed from
// the architecture and found by name; their order and offsets may differ as long as none overlap.
Manifest decode_manifest(std::span<const std::byte> encoded, const std::string& path);

}  // namespace neurogen

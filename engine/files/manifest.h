// The manifest of a checkpoint (schemas/checkpoint.fbs): which brain, which options, which text, how far. Built once, then
// changed in place, so that saving allocates nothing. Nothing that is read is trusted.
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
inline constexpr std::uint32_t kCheckpointVersion = 1;

struct TextIdentity {
  std::int64_t tokens = 0;
  std::uint64_t hash = 0;  // Tokens::hash()
  std::vector<std::int64_t> weights{};
  bool operator==(const TextIdentity&) const = default;
};

// What changes from one checkpoint of a run to the next, beside the tensors.
struct Standing {
  std::int64_t steps = 0;                                           // done
  std::int64_t schedule_steps = 0;                                  // of the whole run, 0: not known yet
  double held_out_loss = std::numeric_limits<double>::quiet_NaN();  // after these steps, where it was measured
};

struct Manifest {
  Architecture architecture;
  BrainOptions options;  // of the schedule keep_logits alone; neither threads nor workspace
  Rates rates;
  std::uint64_t seed = 0;
  std::int64_t steps_per_epoch = 1;
  TextIdentity text;
  std::uint64_t tokenizer = 0;    // Tokenizer::hash(), 0: none
  std::string tokenizer_model{};  // Tokenizer::model(), empty: none
  Standing standing;
  std::vector<Buffer> tensors;           // persistent_layout(); of a file, at the places that they have there
  std::vector<std::uint64_t> checksums;  // XXH3-64, one a tensor
};

// The persistent tensors of a brain, placed as every plan of it places them, whatever its batch, budget or device. Those that
// speaking needs, parameters and wiring, come first.
std::vector<Buffer> persistent_layout(const Architecture& architecture, DType compute, DType decoder_storage);
std::size_t parameters_and_wiring(const Architecture& architecture);  // how many of them that is
Bytes image_bytes(std::span<const Buffer> tensors);                   // where the last one's rounded size ends
Bytes next_begin(std::span<const Buffer> tensors, std::size_t i);     // where the one behind tensor i begins, or the image ends

// Size prefix and all. Throws Error where it could not be read again.
std::vector<std::byte> encode_manifest(const Manifest& manifest);
// Changes what encode_manifest made. Allocates nothing.
void update_manifest(std::span<std::byte> encoded, std::int64_t steps_per_epoch, const Standing& standing,
                     std::span<const std::uint64_t> checksums);
// Throws Error, a sentence that begins with `path`, for anything that encode_manifest would not have written. The tensors are
// computed again from the architecture and found by name; order and places may be others, as long as none share bytes.
Manifest decode_manifest(std::span<const std::byte> encoded, const std::string& path);

}  // namespace neurogen

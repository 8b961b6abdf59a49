// Settings of an engine: architecture, size of a step, device, budget.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace neurogen {

// muon: Muon for matrices, other rules for tables, head and vectors (engine/model/update.h). adamw: AdamW for all.
enum class Optimizer { muon, adamw };
enum class Device { automatic, cpu, cuda };                   // automatic: the first GPU if there is one
enum class Compute { automatic, fp32, bf16, fp16 };           // automatic: fp32 on a CPU, bf16 or fp16 on a GPU
enum class DecoderStorage { automatic, fp32, sixteen_bits };  // automatic: fp32 on a CPU, the 16 bits of `compute` on a GPU
// Products that give the logits in training. int8: of 8-bit whole numbers, at twice the rate of 16 bits on a GPU, with 16-bit types
// and an untied decoder under muon; a little noise in the logits (docs/performance.md).
enum class LogitsProduct { as_compute, int8 };
// How AdamW's matrices and tables are kept, if it updates all.
enum class WeightStorage { fp32, sixteen_bits };  // sixteen_bits: rounded at random
enum class Moments { fp32, eight_bits };          // eight_bits: likewise, by blocks of 256 with a scale each
// backward: each block as soon as its gradients are known, so that few gradients live at a time. It is clipped alone, and
// accumulate must be 1.
enum class UpdateTime { at_end, backward };

// A run that starts from weights takes what is automatic from them, where the device supports it.
struct ModelSettings {
  std::string architecture = "auto";      // a preset or FILE.json; auto: full on a GPU, tiny on a CPU
  std::optional<Optimizer> optimizer;     // not set: as the weights were trained, else the model's own
  std::uint64_t budget = 3'200'000'000;   // limit on all memory of the run, in bytes
  std::optional<std::uint64_t> overhead;  // the part of it for libraries and heap; not set: automatic, by the device
  std::int64_t batch = 32;                // sequences at once; 0: as many of 32 as fit
  std::int64_t accumulate = 1;            // batches per step: their gradients are averaged before the update
  std::int64_t window = 256;              // tokens in a sequence
  Device device = Device::automatic;
  std::int64_t gpu = 0;                                        // which GPU, with Device::cuda
  Compute compute = Compute::automatic;                        // type of matrix products
  DecoderStorage decoder_storage = DecoderStorage::automatic;  // type of the stored decoder, unless AdamW updates all
  std::optional<LogitsProduct> logits;                         // not set: as the weights were trained, else as_compute
  std::optional<WeightStorage> weights;  // these three, not set: as the weights were trained, else fp32, fp32 and at_end
  std::optional<Moments> moments;
  std::optional<UpdateTime> updates;
  std::int64_t threads = 0;  // CPU threads; 0: one per core
  // Token that ends a document: the model's memory is reset after it; -1: none. Not set: as the weights were trained, else none.
  std::optional<std::int64_t> document_end;
  std::int64_t decoder_tile = 1280;  // rows of the decoder updated together
};

}  // namespace neurogen

// Settings of an engine: architecture, size of a step, device, budget.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace neurogen {

// Strings, as on the command line (the option's name is in the comment where it differs), so that invalid values get our own error
// message.
struct ModelSettings {
  std::string architecture = "auto";     // --arch: a preset or FILE.json; auto: full on a GPU, tiny on a CPU
  std::string optimizer = "auto";        // auto: as the weights were trained, else the model's own; muon or adamw
  std::string budget = "3200M";          // limit on all memory of the run; K, M, G are powers of 1,000, Ki, Mi, Gi of 1,024
  std::string overhead = "auto";         // the part of it for libraries and heap
  std::string batch = "32";              // sequences per step; auto: as many of 32 as fit
  std::string device = "auto";           // auto, cpu or cuda[:K]
  std::string compute = "auto";          // auto, fp32, bf16 or fp16
  std::string decoder_storage = "auto";  // auto, fp32 or 16bit
  std::int64_t window = 256;             // --seq: tokens in a sequence
  std::int64_t threads = 0;              // CPU threads; 0: one per core
  // Token that ends a document: the model's memory is reset after it; -1: none. Not set: as the weights were trained, else none.
  std::optional<std::int64_t> document_end;
  std::int64_t decoder_tile = 1280;  // rows of the decoder updated together
};

}  // namespace neurogen

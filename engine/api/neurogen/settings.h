// Which brain, how large a step, on what, inside which budget.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace neurogen {

// As typed on the command line, where a field has the name that stands behind it. Mostly texts, so that a wrong one is
// refused in our words.
struct BrainSettings {
  std::string architecture = "auto";     // --arch: full, small, tiny or FILE.json; auto: full on a GPU, tiny on a CPU
  std::string budget = "3200M";          // everything the run may hold; K, M, G are powers of 1,000, Ki, Mi, Gi of 1,024
  std::string overhead = "auto";         // the part of it left to libraries and heap
  std::string batch = "32";              // sequences a step, or auto for as many of 32 as fit
  std::string device = "auto";           // auto, cpu or cuda[:K]
  std::string compute = "auto";          // auto, fp32, bf16 or fp16
  std::string decoder_storage = "auto";  // auto, fp32 or 16bit
  std::int64_t window = 256;             // --seq: tokens in a sequence
  std::int64_t threads = 0;              // CPU threads, 0: one a core
  // Token that ends a document: memory starts afresh after it; -1: none. Not set: that of the weights, else none.
  std::optional<std::int64_t> document_end;
  std::int64_t decoder_tile = 1280;  // rows of the decoder that are updated together
};

}  // namespace neurogen

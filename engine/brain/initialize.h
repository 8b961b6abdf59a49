// Initial values of all persistent tensors, and of the tensors derived from them.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "engine/brain/brain.h"
#include "engine/data/tokenizer.h"
#include "engine/files/safetensors.h"
#include "engine/graph/program.h"

namespace neurogen {

// Sets parameters and wiring from a seed, moments and statistics to zero. Depends only on the seed, not on threads or device.
// Embedding N(0, 0.25^2), its pairs 0; synapses N(0, 1/F); decoder N(0, (0.02 sqrt(768/O))^2); biases 0; gains and the gate's bias
// 1; retain log(tau - 1), tau log-uniform between the module's time constants, at least 1.05 tokens. Wiring: source blocks are
// dealt from shuffled decks, so that all are read almost equally often and no group reads one twice.
void initialize(const Brain& brain, Program& program, std::uint64_t seed);

// Replaces parameters and wiring by those of a file, found by name ("broca.gain" or "param.broca.gain", "wiring.broca"); all must
// be present in the right shape. A checkpoint's optimizer state is not loaded. Throws Error that names file and tensor before
// anything is replaced.
void initialize_from(const Brain& brain, Program& program, const std::string& file);  // safetensors or a checkpoint

// Finds a file's tensor by name; null if there is none.
using FindTensor = std::function<const FileTensor*(const std::string& name)>;

// Source blocks of every module's groups. Throws Error that names `file` if wiring is missing or names a block that does not exist.
std::array<std::vector<std::int32_t>, kModules> read_wiring(const Architecture& architecture, const FindTensor& find,
                                                            const std::string& file);

// Sets a tensor to the values of a file's tensor of the same shape: converted if both are floating-point, else of the same type.
void set_values(Program& program, TensorId id, const FileTensor& from);

// Computes the derived tensors: call after any change of parameters or wiring from outside.
void derive(const Brain& brain, Program& program);

// Writes parameters and wiring, then the tokenizer (may be null) as kTokenizerTensor. Metadata: "architecture", and "tokenizer",
// the tokenizer's hash.
void export_parameters(const Brain& brain, const Program& program, const std::string& file, const Tokenizer* tokenizer);

}  // namespace neurogen

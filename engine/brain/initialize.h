// First values of everything persistent, and what is derived from it.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "engine/brain/brain.h"
#include "engine/files/safetensors.h"
#include "engine/files/tokenizer.h"
#include "engine/graph/program.h"

namespace neurogen {

// Parameters and wiring from a seed, moments and statistics zero. Depends on the seed alone, not on threads or device.
// Embedding N(0, 0.25^2); synapses N(0, 1/F); decoder N(0, (0.02 sqrt(768/O))^2); biases 0; gains and the gate's bias 1;
// retain log(tau - 1), tau log-uniform between the module's time constants, at least 1.05 tokens.
// Wiring: source blocks dealt from shuffled decks, so that all are read almost equally often and none twice by a group.
void initialize(const Brain& brain, Program& program, std::uint64_t seed);

// Replaces parameters and wiring by those of a file, found by name ("broca.gain" or "param.broca.gain", "wiring.broca"); all
// must be there in the right shape. Of a checkpoint no more than these is taken, not what the optimizers remember. Throws Error,
// naming file and tensor, before anything was replaced.
void initialize_from(const Brain& brain, Program& program, const std::string& file);  // safetensors or a checkpoint

// A file's tensor by name, null where it has none.
using FindTensor = std::function<const FileTensor*(const std::string& name)>;

// The source blocks of every module's groups; each that the file names must be there. Throws Error that names `file`.
std::array<std::vector<std::int32_t>, kModules> read_wiring(const Architecture& architecture, const FindTensor& find,
                                                            const std::string& file);

// All values of a tensor, from one of a file of the same shape: converted where both are floating, else of the same type.
void set_values(Program& program, TensorId id, const FileTensor& from);

// Makes the derived tensors again: call after any change of parameters or wiring from outside.
void derive(const Brain& brain, Program& program);

// Writes parameters and wiring, then the tokenizer (may be null) as kTokenizerTensor; metadata: "architecture", and "tokenizer",
// the hash of that.
void export_parameters(const Brain& brain, const Program& program, const std::string& file, const Tokenizer* tokenizer);

}  // namespace neurogen

// Initial values of all persistent tensors, and of the tensors derived from them; weights from files and to files.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "arena/error.h"
#include "engine/data/tokenizer.h"
#include "engine/files/safetensors.h"
#include "engine/graph/program.h"
#include "engine/model/model.h"
#include "engine/model/pretrained.h"

namespace neurogen {

class Checkpoint;

// Sets parameters and fixed tensors to their first values from a seed, moments and statistics to zero, and computes the derived
// tensors. Parameter i draws from random stream i, so that values depend only on the seed.
void initialize(const Model& model, Program& program, std::uint64_t seed);

// Replaces parameters and fixed tensors by those of a file, found by name ("broca.gain" or "param.broca.gain", "wiring.broca"); all
// must be present in the right shape; beside adapters the frozen ones alone. A checkpoint's optimizer state is not loaded. Throws
// Error that names file and tensor before anything is replaced.
void initialize_from(const Model& model, Program& program, const Safetensors& file);
void initialize_from(const Model& model, Program& program, const Checkpoint& file);
void initialize_from(const Model& model, Program& program, const Pretrained& file);
void initialize_from(const Model& model, Program& program, const std::string& file);  // of any of these kinds

// Finds a file's tensor by name; null if there is none.
using FindTensor = std::function<const FileTensor*(const std::string& name)>;

// Throws Error that names `file` if a fixed tensor is missing or holds a value out of its bound, which would lead astray.
void check_fixed(const Model& model, const FindTensor& find, const std::string& file);
// Throws Error that names the tensor and what it is from, a file or an argument, if a value is not finite, or would not be once it
// is stored in this type.
void require_finite(const FileTensor& tensor, DType stored, const Error::Piece& from);

// Sets a tensor to the values of a file's tensor of the same shape: converted if both are floating-point or both whole numbers.
void set_values(Program& program, TensorId id, const FileTensor& from);

// Computes the derived tensors: call after any change of parameters or fixed tensors from outside.
void derive(const Model& model, Program& program);

// Names of parameters that are not frozen, and of fixed tensors, in order.
std::vector<std::string> weight_names(const Model& model);

// Writes parameters, into which adapters are merged, and fixed tensors, then the tokenizer (may be null) as kTokenizerTensor.
// Metadata: "architecture", "document_end", and "tokenizer", the tokenizer's hash. Returns whether the file is there: false if an
// existing one was kept.
bool export_parameters(const Model& model, const Program& program, const std::string& file, const Tokenizer* tokenizer,
                       Existing existing = Existing::replaced);

}  // namespace neurogen

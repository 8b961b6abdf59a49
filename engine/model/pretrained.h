// Weights in other programs' files: folders of Hugging Face's transformers, and GGUF files of llama.cpp.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/files/gguf.h"
#include "engine/model/architecture.h"

namespace neurogen {

// Parameters by their names in a model.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const std::string& path() const = 0;  // for messages
  // Sets `to` to the elements from `begin` on of a parameter that the source has, row-major. Threads may call it at the same time.
  virtual void read(const std::string& parameter, std::int64_t begin, std::span<float> to) const = 0;
};

class Pretrained : public WeightSource {
 public:
  virtual const ArchitecturePtr& architecture() const = 0;
  // "Hugging Face" or "GGUF", and the tensors in the file as it describes them.
  virtual const char* format() const = 0;
  virtual const std::vector<EncodedTensor>& tensors() const = 0;
  virtual const Gguf* gguf() const { return nullptr; }  // the open file; null: a folder
};

// Whether this is such a folder (or any other) or file.
bool is_pretrained(const std::string& path);
// Maps the files; reads of their data at most what decides whether the head is tied. Throws Error that names the file for whatever
// would make the model compute something else.
std::unique_ptr<Pretrained> open_pretrained(const std::string& path);

// What those files say of a tokenizer.
struct ForeignTokenizer {
  std::vector<std::pair<std::string, std::string>> files;  // of a folder: name, contents
  GgufMetadata metadata;                                   // "tokenizer.ggml.*", empty: none
  std::int64_t begin = -1, end = -1;                       // ids of the pieces that begin and end a text; -1: none
  std::vector<std::int64_t> ends;                          // ids with which a model ends what it says
};

// How a family's models are written in other programs' files. All throw Error.
struct Interchange {
  std::unique_ptr<Pretrained> (*open)(const std::string& path);
  ArchitecturePtr (*parse_config)(std::string_view json, const std::string& where);  // a config.json of transformers
  // `type`: of matrices; not of blocks in a folder. The folder must not exist, or be empty.
  void (*write_folder)(const Architecture& architecture, const WeightSource& weights, Encoding type,
                       const ForeignTokenizer& tokenizer, const std::string& folder);
  void (*write_gguf)(const Architecture& architecture, const WeightSource& weights, Encoding type,
                     const ForeignTokenizer& tokenizer, const std::string& file);
};

// The architecture's family's. Throws Error if it has none.
const Interchange& interchange_of(const Architecture& architecture);

}  // namespace neurogen

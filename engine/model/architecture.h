// What a model is: a family and its dimensions. Knows no family; each derives from this (brain/architecture.h), and families.h
// lists them.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/options.h"

namespace neurogen {

class Assembly;
class Trunk;

// A number to show with a model, such as its neurons.
struct Count {
  const char* name;
  std::int64_t value;
};

// Immutable.
class Architecture {
 public:
  virtual ~Architecture() = default;

  virtual std::string_view family() const = 0;  // "brain"
  virtual const std::string& name() const = 0;
  virtual std::int64_t vocabulary() const = 0;
  virtual std::int64_t features() const = 0;    // width of what the head reads
  virtual double softcap() const { return 0; }  // of the logits: softcap tanh(logits / softcap); 0: none
  virtual bool tied() const { return false; }   // the head has no weights of its own: it is "embedding.weight"
  // Tokens that a document may have, for a model that knows a limited number of positions.
  virtual std::int64_t context() const { return std::numeric_limits<std::int64_t>::max(); }
  // Texts that a stream can take a token each of at once (StepOptions::streams).
  virtual std::int64_t most_streams() const { return 1; }
  // Blocks of which Schedule::computed_twice counts; 0: the model works in Schedule::sections instead.
  virtual std::int64_t blocks() const { return 0; }
  virtual std::vector<Optimizer> optimizers() const { return {Optimizer::muon}; }  // that train it, the default first
  // Learning rates at their peak: of vectors, or of all parameters under AdamW; and of matrices under Muon.
  struct Rates {
    double vectors = 4e-3, matrices = 0.01;
  };
  virtual Rates rates(Optimizer) const { return {}; }
  virtual std::vector<std::string> adaptable() const { return {}; }  // short names of the matrices that Lora can adapt
  // Hugging Face's name of a matrix, "model.layers.0.self_attn.q_proj" of "layers.0.query.weight"; empty if it has none of its own.
  virtual std::string huggingface_module(const std::string& /* matrix */) const { return ""; }
  virtual std::vector<Count> counts() const = 0;
  virtual std::int64_t weights() const = 0;  // that multiply each token, the head's included
  virtual std::string json() const = 0;      // what the family parses

  // Declares nothing yet. `assembly` must outlive the trunk.
  virtual std::unique_ptr<Trunk> trunk(Assembly& assembly) const = 0;
  // A model of these proportions with every width `units` times the smallest possible step; null if that is invalid.
  virtual std::shared_ptr<const Architecture> in_proportion(std::int64_t units) const = 0;
};

using ArchitecturePtr = std::shared_ptr<const Architecture>;

}  // namespace neurogen

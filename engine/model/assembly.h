// Adds a model's tensors and operations to its graph, for its trunk and head and for the families.
#pragma once
#include <string>
#include <vector>

#include "engine/model/model.h"

namespace neurogen {

// A run of whole sequences: rows [begin, begin + rows) of every [N, ...] tensor.
struct Section {
  std::int64_t begin, rows;
};

// What a program reads, [N] i32.
struct Batch {
  TensorId ids, targets;  // targets are empty in a stream
  TensorId first;         // row of the first token of each token's document in its window (kernels/documents.h)
};

// Parameters are named by their place in Model::parameters.
using ParameterId = std::size_t;

class Assembly {
 public:
  explicit Assembly(Model& model);

  Model& model;
  Graph& graph;
  StepOptions options;  // of the program that is being added: a stream's differ from the model's
  DType real, compute;
  DType gradient;        // type of gradients of outputs and of norms' inputs: bf16 with bf16; f16 lacks the range
  double element_bytes;  // of the compute type
  TensorId control;      // StepControl, derived: the device's copy; with training
  // With training in micro-batches: tokens counted so far in the step, derived; this micro-batch's share of them, transient.
  TensorId counted, share;
  struct {                    // early updates so far (update.h)
    std::vector<bool> done;   // of each parameter
    TensorId squares;         // sums of squares of all gradients, transient
    std::int64_t summed = 0;  // of these
    std::int64_t groups = 0;
  } early;
  int exchanges = 0;  // among ranks so far (exchange.h)

  bool accumulates() const { return model.options.accumulate > 1; }  // whether a step has several micro-batches
  bool several_ranks() const { return model.options.ranks > 1; }

  // Declaration.
  ParameterId parameter(ParameterSpec spec);  // frozen if the options train adapters alone
  // The two matrices of a matrix' adapter, if the options have one for its short name.
  void adapt(ParameterId matrix, const std::string& short_name);
  TensorId fixed(FixedTensor tensor);
  TensorId persistent(const std::string& name, DType type, const Shape& shape);
  TensorId derived(const std::string& name, DType type, const Shape& shape);
  TensorId host(const char* name, DType type, const Shape& shape);
  // Memory that a stream keeps from token to token and that is cleared to start over.
  TensorId state(const std::string& name, DType type, const Shape& shape);
  // The transient gradient of a parameter, of its shape; empty if it is frozen.
  TensorId declare_gradient(ParameterId id);
  // The derived one that collects the micro-batches' (kernels/running_mean.h), of the parameter's shape.
  TensorId declare_mean_gradient(ParameterId id);

  TensorId value(ParameterId id) const { return model.parameters[id].value; }
  TensorId operand(ParameterId id) const;  // what products read, if it has their type
  // The same in their type: a copy for one product of a parameter that is stored in another.
  TensorId operand(const std::string& product, ParameterId id);
  // Whether the options' storage of matrices and tables under AdamW is that of this parameter.
  bool stored_narrow(const ParameterSpec& spec) const;

  // Runs of sequences in which the passes work, and rows of one product: sections begin at its multiples, so that no product, and
  // no bit, depends on their number.
  std::vector<Section> sections() const;
  std::int64_t rows_per_product() const;

  TensorId scratch(const std::string& name, std::int64_t elements);  // [threads, elements]; empty on a GPU
  // `groups` products [m, k] x [k, n].
  Cost product_cost(std::int64_t groups, std::int64_t m, std::int64_t n, std::int64_t k) const;

  // Operations.
  void read_control();
  // The gradient of a step in micro-batches (kernels/running_mean.h): the share of one, from its total; and `value`, of one, into
  // `mean`: its rows from `begin` on, or those of a table.
  void add_share(TensorId total);
  void add_to_mean(const std::string& name, TensorId value, TensorId mean, std::int64_t begin = 0, TensorId rows = {},
                   TensorId count = {});
  Batch read_batch(const std::string& prefix, TensorId from, bool with_targets, bool with_documents);

 private:
  ParameterId declare(ParameterSpec spec, DType type, BufferKind kind);
};

}  // namespace neurogen

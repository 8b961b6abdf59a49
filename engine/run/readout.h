// Reads tensors of a brain between steps: by name, and rows of them as float32, from either device.
#pragma once
#include <array>
#include <span>
#include <string>
#include <vector>

#include "engine/brain/architecture.h"
#include "engine/graph/program.h"

namespace neurogen {

// Throws std::out_of_range for an unknown name.
TensorId find_tensor(const Graph& graph, const std::string& name);

// The operations of "evaluate" from the end of the previous module's part to this module's outputs.
struct ModulePart {
  Graph::Range range;
  TensorId output;  // [N, O], valid until the next part runs
};
std::array<ModulePart, kModules> module_parts(const Graph& graph);

class Readout {
 public:
  // The program must outlive it. `most`: elements read at once.
  Readout(const Program& program, std::int64_t most)
      : program_(program), raw_(8 * static_cast<std::size_t>(most)), values_(static_cast<std::size_t>(most)) {}

  // Rows [begin, begin + count) of a contiguous floating-point tensor, valid until the next call. Allocates nothing.
  std::span<const float> rows(TensorId id, std::int64_t begin, std::int64_t count);
  std::span<const float> all(TensorId id) { return rows(id, 0, program_.view(id)[0]); }

 private:
  const Program& program_;
  std::vector<std::byte> raw_;
  std::vector<float> values_;
};

}  // namespace neurogen

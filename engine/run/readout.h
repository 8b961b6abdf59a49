// Reads rows of tensors as float32 between steps, from either device.
#pragma once
#include <span>
#include <vector>

#include "engine/graph/program.h"

namespace neurogen {

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

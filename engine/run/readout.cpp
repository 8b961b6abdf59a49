#include "engine/run/readout.h"

#include <algorithm>
#include <stdexcept>

#include "arena/error.h"
#include "kernels/half.h"

namespace neurogen {

TensorId find_tensor(const Graph& graph, const std::string& name) {
  const auto& tensors = graph.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const Buffer& buffer) { return buffer.name == name; });
  if (found == tensors.end()) throw std::out_of_range("no tensor " + name);
  return {static_cast<std::size_t>(found - tensors.begin())};
}

std::array<ModulePart, kModules> module_parts(const Graph& graph) {
  std::array<ModulePart, kModules> parts;
  Graph::Range rest = graph.program("evaluate");
  for (int m = 0; m < kModules; ++m) {
    const std::string name = name_of(static_cast<ModuleIndex>(m));
    std::size_t end = rest.begin;  // after the last section's norm
    for (std::size_t o = rest.begin; o < rest.end; ++o) {
      if (graph.operations()[o].name.ends_with("." + name + ".norm")) end = o + 1;
    }
    parts[m] = {{rest.begin, end}, find_tensor(graph, "evaluate." + name + ".output")};
    rest.begin = end;
  }
  return parts;
}

std::span<const float> Readout::rows(TensorId id, std::int64_t begin, std::int64_t count) {
  const TensorView view = program_.view(id);
  const auto n = static_cast<std::size_t>(count * view.row_elements());
  const Bytes size = size_of(view.dtype);
  program_.read(id, raw_.data(), n * size, static_cast<Bytes>(begin * view.row_elements()) * size);
  const auto take = [&](auto element) {
    const auto* from = reinterpret_cast<const decltype(element)*>(raw_.data());
    std::transform(from, from + n, values_.begin(), [](auto x) { return widen(x); });
  };
  switch (view.dtype) {
    case DType::f32:
      take(float{});
      break;
    case DType::f64:
      take(double{});
      break;
    case DType::bf16:
      take(Bf16{});
      break;
    case DType::f16:
      take(F16{});
      break;
    default:
      throw Error("an integer tensor cannot be read as float32");
  }
  return {values_.data(), n};
}

}  // namespace neurogen

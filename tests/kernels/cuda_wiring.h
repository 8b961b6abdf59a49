// Helpers for tests of synapses on a GPU: random sources and a random wiring.
#pragma once
#include "kernels/brain/cortical_columns.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {

class CudaWiringTest : public CudaTest {
 protected:
  // For a.tokens and a.groups of a.slots blocks, a.width wide: sources of one to five modules, their gradients, and the wiring.
  template <typename Net>
  void draw_wiring(Net& a) {
    for (std::int64_t parts = draw(1, 5); parts > 0; --parts) {
      const std::int64_t width = 32 * draw(1, 5);
      a.blocks += width / a.width;
      a.sources.push_back(noise({a.tokens, width}));
      a.d_sources.push_back(noise({a.tokens, width}));
    }
    a.wiring = Tensor<std::int32_t>({a.groups, a.slots}, 0);
    for (std::int32_t& block : a.wiring.data) block = static_cast<std::int32_t>(draw(0, a.blocks - 1));
    a.reader_start = Tensor<std::int32_t>::poisoned({a.blocks + 1});
    a.readers = Tensor<std::int32_t>::poisoned({a.groups * a.slots});
  }

  // The sources side by side, on either device.
  template <typename Tensors>
  static Sources all(Tensors& tensors, std::int64_t token, std::int64_t tokens) {
    Sources result;
    for (auto& tensor : tensors) result.outputs[static_cast<std::size_t>(result.count++)] = tensor.view().rows(token, tokens);
    return result;
  }

  // Parts of a gradient, the first holding its previous value, and their sum.
  static OnGpu parts_of(const Tensor<double>& begun, std::int64_t parts) {
    Shape shape = begun.shape;
    shape[0] *= parts;
    Tensor<double> host(std::move(shape), 0);
    std::copy(begun.data.begin(), begun.data.end(), host.data.begin());
    return OnGpu(host, DType::f32);
  }
  static OnGpu sum_of(const OnGpu& parts, const Shape& shape) {
    OnGpu total(DType::f32, shape);
    cortical_columns_sum(gpu(), {{parts, total}});
    return total;
  }
};

}  // namespace neurogen

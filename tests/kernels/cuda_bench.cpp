// Times the operations of the list on a GPU at the shapes of the presets, in bf16 if they take it: milliseconds beside the least
// time for their bytes (at 4.2 TB/s) and products (at 700 TFLOP/s), as on an H200.
//   cuda_bench [part of a name]
#include "arena/error.h"
#include "tests/kernels/operations/instance.h"

namespace neurogen {
namespace {

double median_ms(CudaDevice& gpu, const Step& step, const Operands& at) {
  std::vector<double> times;
  for (int i = 0; i < 12; ++i) {
    gpu.mark();
    step.run(gpu, at);
    gpu.mark();
    gpu.synchronize();
    if (i >= 3) times.push_back(gpu.milliseconds_between_marks());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// What a step reads and writes: operands that it asked for, each once, and those that it changes twice.
double bytes_of(const Case& c, const Step& step, const Operands& at) {
  double bytes = 0;
  for (std::size_t i = 0; i < c.operands.size(); ++i) {
    const Use use = c.operands[i].use;
    const double times = !at.touched[i] || use == Use::scratch ? 0 : use == Use::updated || use == Use::replaced ? 2 : 1;
    bytes += times * static_cast<double>(size_of(at.views[i].dtype, c.operands[i].shape));
  }
  return step.cost.bytes < 0 ? bytes : step.cost.bytes;
}

struct Totals {
  double measured = 0, floor = 0;
};

void time(CudaDevice& gpu, const Case& c, DType type, Totals& totals) {
  Instance<CudaDevice> instance(gpu, c, type);
  for (const Step& step : c.steps) {
    std::fill(instance.at.touched.begin(), instance.at.touched.end(), false);
    const double ms = median_ms(gpu, step, instance.at);
    const double least = std::max(bytes_of(c, step, instance.at) / 4.2e9, step.cost.flops / 700e9);
    if (least == 0) continue;  // prepares scratch
    fmt::print("{:50} {:26} {:8.3f} ms   floor {:7.3f}   x {:.2f}\n", c.name, step.name, ms, least, ms / least);
    totals.measured += ms, totals.floor += least;
  }
}

void run(std::string_view part) {
  CudaDevice gpu;
  Totals totals;
  for (const Operation* operation : operations()) {
    if (operation->name.find(part) == std::string::npos) continue;
    const bool bf16 = std::count(operation->types.begin(), operation->types.end(), DType::bf16) > 0;
    for (const Shape& shape : operation->timed) {
      const Case c = operation->at(shape);
      try {
        time(gpu, c, bf16 ? DType::bf16 : operation->types[0], totals);
      } catch (const Error& error) {  // too large for this GPU
        fmt::print("{}: {}\n", c.name, error.what());
      }
    }
  }
  fmt::print("{:77} {:8.3f} ms   floor {:7.3f}\n", "all", totals.measured, totals.floor);
}

}  // namespace
}  // namespace neurogen

int main(int count, char** arguments) {
  try {
    neurogen::run(count > 1 ? arguments[1] : "");
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_bench: {}\n", error.what());
    return 1;
  }
}

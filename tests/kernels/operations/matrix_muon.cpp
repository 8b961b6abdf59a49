#include "kernels/matrix_muon.h"

#include "tests/kernels/operations/operation.h"
#include "tests/kernels/orthogonal.h"

namespace neurogen {
namespace {

// [overflow, C, M, N]; every second matrix has a copy in 16 bits.
const Listed matrix_muon_{{
    .name = "matrix_muon",
    .shapes = {{0, 1, 8, 8}, {0, 3, 16, 40}, {0, 2, 72, 24}, {0, 2, 136, 144}, {2, 2, 24, 16}},
    .cpu_shapes = {{0, 1, 1, 1}, {0, 2, 30, 7}, {0, 3, 9, 50}},
    .gpu_shapes = {{0, 3, 520, 264}, {0, 2, 512, 1536}},
    .timed = {{0, 8, 512, 512}, {0, 8, 2048, 512}, {0, 12, 768, 768}, {0, 12, 3072, 768}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t count = s[1], rows = s[2], columns = s[3], side = std::min(rows, columns),
                             longer = std::max(rows, columns);
          const Shape matrix{rows, columns}, all{count, rows, columns}, squares{count, side, side};
          const StepControl now{
              .step = 7, .learning_rate = 99, .synapse_learning_rate = 0.03125f, .overflow = static_cast<std::int32_t>(s[0])};
          const bool runs = now.overflow == 0;
          const auto control = c.control(now), norm = c.input("norm", {2}, constant(0.25), Stored::single);
          struct Weights {
            Id gradient, value, momentum, low;
          };
          std::vector<Weights> list;
          for (std::int64_t i = 0; i < count; ++i) {
            const auto gradient = c.input("gradient", matrix, noise(0.1), Stored::single);
            const auto value = c.updated("value", matrix, noise(0.2), Stored::single),
                       momentum = c.updated("momentum", matrix, noise(0.01), Stored::single);
            const auto low = c.output("low", shape_if(runs && i % 2 == 0, matrix), Stored::bf16);
            if (low) c[low].copy_of = value;
            c[value].roundings = 8;  // of fifteen, in products of five steps
            list.push_back({gradient, value, momentum, low});
          }
          const auto x = c.scratch("x", all), next = c.scratch("next", all), gram = c.scratch("gram", squares),
                     square = c.scratch("square", squares),
                     sums = c.scratch("sums", {count, matrix_muon_sums(rows * columns)}, Stored::f64);
          c.tolerance = 5e-6;  // five steps multiply errors
          const auto update = [=](const Operands& at, const Weights& w) {
            return MuonUpdate{at[w.gradient], at[w.value], at[w.momentum], 0, at[w.low]};
          };
          const auto together = [=](auto& device, const Operands& at) {
            MatrixMuon arguments{at[control], at[norm], {}, at[x], at[next], at[gram], at[square], at[sums]};
            for (const Weights& w : list) arguments.updates.add(update(at, w));
            matrix_muon(device, arguments);
          };
          c.run("matrix_muon", together, {2.0 * kMuonSteps * static_cast<double>(count * side * side * (2 * longer + side))});
          // A GPU's library may divide a batch's products otherwise than a single one.
          c.also("alone", [=](auto& device, const Operands& at) {
            if constexpr (kOnCpu<std::remove_reference_t<decltype(device)>>) {
              for (const Weights& w : list)
                matrix_muon(device, {at[control], at[norm], {update(at, w)}, at[x], at[next], at[gram], at[square], at[sums]});
            } else {
              together(device, at);
            }
          });
          c.formula = [=](Values& v) {
            const double rate = static_cast<double>(now.synapse_learning_rate) *
                                std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns)));
            for (const Weights& w : list) {
              Matrix u(static_cast<std::size_t>(rows), std::vector<double>(static_cast<std::size_t>(columns)));
              const auto each = [&](auto&& body) {
                std::int64_t i = 0;
                for (auto& row : u)
                  for (double& element : row) body(element, i++);
              };
              if (!runs) continue;
              each([&](double& element, std::int64_t i) {
                const double g = 0.25 * v[w.gradient][i], m = v[w.momentum][i] = 0.95 * v[w.momentum][i] + 0.05 * g;
                element = 0.05 * g + 0.95 * m;
              });
              u = orthogonal(u);
              each([&](double element, std::int64_t i) { v[w.value][i] -= rate * element; });
            }
          };
        },
}};

}  // namespace
}  // namespace neurogen

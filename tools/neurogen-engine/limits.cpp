#include "tools/neurogen-engine/limits.h"

#include <algorithm>
#include <vector>

#include "kernels/base/random.h"
#include "kernels/copy.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

constexpr int kRepeats = 5;

// A graph of its own for measurements: operations on tensors filled with numbers of ordinary size.
class Measurement {
 public:
  // Begins a program, so that a GPU loads its code at the start, when the heap may still grow.
  explicit Measurement(const Resolved& r) : place_(r.place) {
    model_.options = r.options;
    model_.graph.begin_program();
  }

  TensorId operand(std::int64_t rows, std::int64_t columns) {
    const std::string name = "operand" + std::to_string(operands_.size());
    operands_.push_back(model_.graph.tensor(name, model_.options.compute, {rows, columns}, BufferKind::derived));
    return operands_.back();
  }
  TensorId result(DType type, std::int64_t rows, std::int64_t columns) {
    return model_.graph.transient("result", type, {rows, columns});
  }
  void product(TensorId a, TensorId b, TensorId c, Transpose transpose_a = Transpose::no, Transpose transpose_b = Transpose::no) {
    model_.graph.operation("product", {a, b}, {c}, [=](auto& device, const Bindings& at) {
      matmul(device, {at[a], at[b], at[c], transpose_a, transpose_b, 0});
    });
  }
  void copying(TensorId from, TensorId to) {
    model_.graph.operation("copy", {from}, {to}, [=](auto& device, const Bindings& at) { copy(device, at[from], at[to]); });
  }

  // The sum of the operations' best times.
  double seconds() {
    Session session(planned(std::move(model_), {UINT64_MAX, 0}), place_);
    for (const TensorId id : operands_) fill(session, id);
    double sum = 0;
    for (std::size_t o = 0; o < session.model.graph.operations().size(); ++o) {
      double best = 1e30;
      for (int i = 0; i < kRepeats; ++i) {
        session.program.run({o, o + 1});
        best = std::min(best, session.program.milliseconds() / 1e3);
      }
      sum += best;
    }
    return sum;
  }

 private:
  // Repeats the same numbers: drawing new ones would take longer than the whole measurement.
  static void fill(Session& session, TensorId id) {
    static const std::vector<std::uint16_t> numbers = [] {
      std::vector<std::uint16_t> list(std::size_t{1} << 20);
      for (std::size_t i = 0; i < list.size(); ++i) list[i] = static_cast<std::uint16_t>(0x3C00 + below(1024, 1, 0, i));
      return list;
    }();
    const Bytes all = session.arena.plan().buffers[id.index].bytes, piece = numbers.size() * sizeof numbers[0];
    for (Bytes at = 0; at < all; at += piece) session.program.write(id, numbers.data(), std::min(piece, all - at), at);
  }

  Place place_;
  Model model_;
  std::vector<TensorId> operands_;
};

}  // namespace

Limits measure_limits(const Resolved& r, std::int64_t tokens) {
  const DType compute = r.options.compute;
  Limits limits;
  {
    const std::int64_t n = limits.square = r.place.gpu ? 8192 : 2048;
    Measurement run(r);
    const TensorId a = run.operand(n, n), b = run.operand(n, n);
    run.product(a, b, run.result(compute, n, n));
    limits.flops_per_s = 2.0 * static_cast<double>(n * n * n) / run.seconds();
  }
  {
    const std::int64_t rows = r.place.gpu ? 262'144 : 65'536, columns = 1024;  // far more than any cache holds
    Measurement run(r);
    const TensorId a = run.operand(rows, columns), b = run.operand(rows, columns);
    // Two copies: a program of one operation would be launched as a graph, whose copies a GPU makes at half the rate.
    run.copying(a, b);
    run.copying(b, a);
    limits.bytes_per_s = 4.0 * static_cast<double>(size_of(compute, {rows, columns})) / run.seconds();
  }
  {
    const std::int64_t vocabulary = r.architecture->vocabulary(), outputs = r.architecture->features();
    Measurement run(r);
    const TensorId features = run.operand(tokens, outputs), decoder = run.operand(vocabulary, outputs),
                   d_logits = run.operand(tokens, vocabulary);
    run.product(features, decoder, run.result(compute, tokens, vocabulary), Transpose::no, Transpose::yes);
    run.product(d_logits, decoder, run.result(compute, tokens, outputs));
    run.product(d_logits, features, run.result(r.options.real(), vocabulary, outputs), Transpose::yes);
    limits.decoder_seconds = run.seconds();
  }
  return limits;
}

}  // namespace neurogen

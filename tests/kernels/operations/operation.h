// The list of operations: an entry says once what an operation's operands are, how it runs, and at which shapes. From it follow
// every check (checks.h), on a CPU and on a GPU, and the benchmark.
//
// A case is an entry at one shape: operands, and one or more steps that run in order on them, each with the same code for both
// devices. Every check takes a case in one type; values are float64 on the way, and rounded to the type in which they are stored.
#pragma once
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "tests/kernels/tensor.h"

namespace neurogen {

enum class Use : std::uint8_t {
  input,     // stays as it is
  output,    // written, whatever it held
  partial,   // an output of which some elements may keep what they held
  updated,   // changed by an amount; its error is compared with that amount
  replaced,  // read and overwritten by something else
  scratch,   // anything, before and after
};

// An operand's element type. The first three follow from the type under test; for float64, the CPU's reference, they are float64.
enum class Stored : std::uint8_t {
  tested,
  single,    // f32, whatever the type
  gradient,  // bf16 beside bf16, otherwise f32: outputs before a norm, and gradients
  f32,
  f64,
  bf16,
  f16,
  i32,
  i64,
  u8,
};
DType type_of(Stored stored, DType tested);

using Random = std::mt19937;
using Fill = std::function<void(Tensor<double>&, Random&)>;
Fill noise(double scale = 1, double mean = 0);
Fill positive(double scale);  // magnitudes of noise
Fill constant(double value);
Fill below(std::int64_t n);  // whole numbers from 0
Fill values(std::vector<double> all);
Fill documents_in(std::int64_t window);  // for tokens in windows, the index of the first token of each token's document

double rounded(double value, DType type);  // as memory of that type holds it

// The shape of an operand that may be absent.
inline Shape shape_if(bool present, Shape shape) { return present ? std::move(shape) : Shape{0}; }

// An operand of a case; empty for one that is absent.
struct Id {
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::size_t index = kNone;
  explicit operator bool() const { return index != kNone; }
};

struct Operand {
  std::string name;
  Shape shape;
  Use use = Use::input;
  Stored stored = Stored::tested;
  Fill fill{};
  // Values in 16 bits on the way from the inputs to this one, so errors of that many roundings.
  double roundings = 0;
  bool exact = false;  // bit for bit, as whole numbers are
  bool drawn = false;  // whole numbers rounded at random: a few may differ by one
  Id copy_of{};        // holds the bits of that operand, rounded
  // Elements before and after each row, which belong to something wider.
  std::int64_t before = 0, after = 0;
};

// Values of a case's operands.
class Values {
 public:
  explicit Values(std::size_t count = 0) : all_(count) {}
  Tensor<double>& operator[](Id id) { return all_[id.index]; }
  const Tensor<double>& operator[](Id id) const { return all_[id.index]; }

 private:
  std::vector<Tensor<double>> all_;
};
StepControl control_of(const Tensor<double>& bytes);
void store(const StepControl& control, Tensor<double>& bytes);

// Views of a case's operands in one memory; that of an absent operand is empty. Notes which ones are asked for.
class Operands {
 public:
  explicit Operands(std::size_t count) : views(count), touched(count) {}
  TensorView operator[](Id id) const {
    if (!id) return {};
    touched[id.index] = true;
    return views[id.index];
  }
  std::vector<TensorView> views;
  mutable std::vector<bool> touched;
};

// The least work that a step takes, to compare its time with.
struct Cost {
  double flops = 0;   // of its products, 2 for a multiply-add
  double bytes = -1;  // read and written; -1: all operands that it asks for, but scratch
};

struct Step {
  std::string name;
  Cost cost;
  std::function<void(CpuDevice&, const Operands&)> on_cpu{};
#ifdef NEUROGEN_CUDA
  std::function<void(CudaDevice&, const Operands&)> on_cuda{};
#endif
  void run(CpuDevice& device, const Operands& at) const { on_cpu(device, at); }
#ifdef NEUROGEN_CUDA
  void run(CudaDevice& device, const Operands& at) const { on_cuda(device, at); }
#endif
};

template <typename Device>
constexpr bool kOnCpu = std::is_same_v<Device, CpuDevice>;

class Case {
 public:
  // Operands. One without elements is absent, and so has an empty id.
  Id input(std::string name, Shape shape, Fill fill = noise(), Stored stored = Stored::tested) {
    return add({std::move(name), std::move(shape), Use::input, stored, std::move(fill)});
  }
  Id output(std::string name, Shape shape, Stored stored = Stored::tested, Use use = Use::output) {
    return add({std::move(name), std::move(shape), use, stored});
  }
  Id updated(std::string name, Shape shape, Fill fill = noise(), Stored stored = Stored::tested, Use use = Use::updated) {
    return add({std::move(name), std::move(shape), use, stored, std::move(fill)});
  }
  Id scratch(std::string name, Shape shape, Stored stored = Stored::tested) {
    return add({std::move(name), std::move(shape), Use::scratch, stored});
  }
  Id control(const StepControl& value, Use use = Use::input);
  Operand& operator[](Id id) { return operands[id.index]; }
  Id add(Operand operand);
  Id find(const std::string& name) const;  // the first of that name

  // `body(auto& device, const Operands& at)`, compiled for every device of the build.
  template <typename Body>
  void run(const std::string& name, Body body, Cost cost = {}) {
    steps.push_back(step_of(name, std::move(body), cost));
  }
  // Another way to the same bits in all operands but scratch, such as the parts of a batch one after another.
  template <typename Body>
  void also(const std::string& name, Body body) {
    others.push_back(step_of(name, std::move(body), {}));
  }

  // What the definition gives for the initial values, in plain loops in float64: of all outputs, or of those named.
  std::function<void(Values&)> formula;
  std::vector<Id> formula_gives;
  // A number to differentiate, from the values before and after the steps so far, and its gradients, after all steps (inputs
  // are among the values before alone). A gradient that is added to is its operand's change.
  using Loss = std::function<double(const Values& before, const Values& after)>;
  using Gradient = std::function<Tensor<double>(const Values& before, const Values& after)>;
  void loss_is(Loss is) { loss = std::move(is), loss_steps = steps.size(); }
  void loss_is(Id out, Id d_out) {
    loss_is([=](const Values& before, const Values& after) { return inner(after[out], before[d_out]); });
  }
  void gradient(Id of, Gradient is) {
    if (of) gradients.push_back({of, std::move(is)});
  }
  void gradient(Id of, Id is);

  // Largest error of float32, as a share of an operand's size; float64's is smaller by the types' precision.
  double tolerance = 2e-6;

  std::string name;
  std::vector<Operand> operands;
  std::vector<Step> steps, others;
  Loss loss;
  std::size_t loss_steps = 0;
  std::vector<std::pair<Id, Gradient>> gradients;

  // An operand's initial values, rounded to the type in which they are stored. Outputs and scratch have none.
  Tensor<double> initial(Id id, DType tested) const;

 private:
  template <typename Body>
  static Step step_of(const std::string& name, Body body, Cost cost) {
    Step step{.name = name, .cost = cost, .on_cpu = body};
#ifdef NEUROGEN_CUDA
    step.on_cuda = std::move(body);
#endif
    return step;
  }
};

// What an entry calls a shape is up to its body: extents, and numbers that choose a variant.
struct Operation {
  std::string name;
  std::vector<Shape> shapes;        // checked on both devices
  std::vector<Shape> cpu_shapes{};  // and those that only a CPU takes
  std::vector<Shape> gpu_shapes{};  // and those too large for the tests of a CPU
  std::vector<Shape> timed{};       // by the benchmark: those of the presets
  std::function<void(Case&, const Shape&)> body;
  std::vector<DType> types = {DType::f32, DType::bf16, DType::f16};  // on a GPU
  int bf16_capability = 75;                                          // the oldest GPU that takes bf16
  std::vector<Bytes> shared_memory = {UINT64_MAX};                   // limits a GPU's, so that it behaves like a smaller card

  Case at(const Shape& shape) const;
};

inline void PrintTo(const Operation* operation, std::ostream* out) { *out << operation->name; }

// In the order of their names.
const std::vector<const Operation*>& operations();

// An entry: a static object.
struct Listed {
  explicit Listed(Operation entered);
  Operation operation;
};

}  // namespace neurogen

#include "engine/model/initialize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <map>

#include "arena/error.h"
#include "engine/files/checkpoint.h"
#include "engine/files/finite.h"
#include "engine/model/family.h"
#include "kernels/base/half.h"
#include "kernels/base/thread_pool.h"

namespace neurogen {
namespace {

constexpr std::int64_t kPiece = 1 << 20;  // elements computed in host memory at a time
constexpr double kLargestF16 = 65504;

// Calls body(T{}), where T is the C++ type of `type`: float, double or one from half.h.
template <typename Body>
void dispatch_stored(DType type, Body&& body) {
  switch (type) {
    case DType::f64:
      return body(double{});
    case DType::bf16:
      return body(Bf16{});
    case DType::f16:
      return body(F16{});
    default:
      return body(float{});
  }
}

// Sets every element i of a tensor to value(i), computed on all cores and converted to its type, on either device.
template <typename Value>
void fill(Program& program, TensorId id, Value&& value) {
  const TensorView view = program.view(id);
  const std::int64_t n = view.elements(), threads = cores_of_this_process();
  dispatch_stored(view.dtype, [&](auto zero) {
    using Stored = decltype(zero);
    std::vector<Stored> piece(static_cast<std::size_t>(std::min(n, kPiece)));
    for (std::int64_t begin = 0; begin < n; begin += kPiece) {
      const std::int64_t count = std::min(kPiece, n - begin);
      const auto make = [&](std::int64_t thread) {
        for (std::int64_t i = count * thread / threads; i < count * (thread + 1) / threads; ++i) {
          Stored& to = piece[static_cast<std::size_t>(i)];
          if constexpr (sizeof(Stored) >= 4) to = static_cast<Stored>(value(begin + i));
          else narrow(static_cast<float>(value(begin + i)), to);
        }
      };
      on_threads(threads, make);
      program.write(id, piece.data(), static_cast<Bytes>(count) * sizeof(Stored), static_cast<Bytes>(begin) * sizeof(Stored));
    }
  });
}

// Checks that a file's tensor is present, in this shape and with a floating-point or integer type.
const FileTensor& require(const FileTensor* tensor, const std::string& name, const Shape& shape, bool floating,
                          const std::string& file) {
  if (!tensor) throw Error(fmt::format("{}: {} is missing: use a file with all of the model's weights", file, name));
  if (tensor->shape != shape) {
    throw Error({fmt::format("{}: {} has shape {}, this architecture's is {}: use the ", file, tensor->name,
                             to_string(tensor->shape), to_string(shape)),
                 Field("architecture"), " that the file was made with"});
  }
  if (is_floating(tensor->dtype) != floating) {
    throw Error(fmt::format("{}: {} is {}, but {} numbers are needed: the file is damaged", file, tensor->name,
                            name_of(tensor->dtype), floating ? "floating-point" : "whole"));
  }
  return *tensor;
}

}  // namespace

void initialize(const Model& model, Program& program, std::uint64_t seed) {
  for (std::size_t i = 0; i < model.parameters.size(); ++i) {
    const Parameter& p = model.parameters[i];
    fill(program, p.value, [&](std::int64_t element) { return p.first(seed, i, static_cast<std::uint64_t>(element)); });
  }
  for (const FixedTensor& tensor : model.fixed) {
    const std::vector<std::int32_t> values = tensor.first(seed);
    program.write(tensor.value, values.data(), values.size() * sizeof values[0]);
  }
  derive(model, program);
}

void derive(const Model& model, Program& program) { program.run(model.programs.derive); }

void check_fixed(const Model& model, const FindTensor& find, const std::string& file) {
  for (const FixedTensor& fixed : model.fixed) {
    const FileTensor& tensor = require(find(fixed.name), fixed.name, fixed.shape, false, file);
    for (std::int64_t i = 0; i < tensor.elements(); ++i) {
      const std::int64_t value = tensor.integer(i);
      if (value >= 0 && value < fixed.bound) continue;
      throw Error(
          fmt::format("{}: {} holds {}, but its values are below {}: the file is damaged", file, fixed.name, value, fixed.bound));
    }
  }
}

void require_finite(const FileTensor& tensor, DType stored, const Error::Piece& from) {
  if (!all_finite(tensor.dtype, tensor.data))
    throw Error({from, fmt::format(": {} holds values that are not finite: use finite weights", tensor.name)});
  const bool f16 = stored == DType::f16;
  if (tensor.dtype == stored || (tensor.dtype != DType::f64 && !f16)) return;  // `stored` can represent them all
  const double most = f16 ? kLargestF16 : FLT_MAX;
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    if (std::abs(tensor.real(i)) <= most) continue;
    throw Error(
        {from, fmt::format(": {} holds {:g}, which is infinite in {}: use another ", tensor.name, tensor.real(i), name_of(stored)),
         Field("compute"), " or ", Field("decoder_storage")});
  }
}

void set_values(Program& program, TensorId id, const FileTensor& from) {
  const DType to = program.view(id).dtype;
  if (from.dtype == to) return program.write(id, from.data.data(), from.data.size());
  if (is_floating(to)) return fill(program, id, [&](std::int64_t i) { return from.real(i); });
  std::vector<std::int32_t> values(static_cast<std::size_t>(from.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(from.integer(static_cast<std::int64_t>(i)));
  program.write(id, values.data(), values.size() * sizeof values[0]);
}

namespace {

// All parameters, but not adapters: if there are some, those that are frozen.
std::vector<const Parameter*> taken_from_files(const Model& model) {
  std::vector<const Parameter*> list;
  for (const Parameter& p : model.parameters)
    if (model.options.lora.rank == 0 || p.rule == UpdateRule::none) list.push_back(&p);
  return list;
}

void take_weights(const Model& model, Program& program, const FindTensor& find, const std::string& file) {
  // Check everything before replacing anything.
  const std::vector<const Parameter*> taken = taken_from_files(model);
  std::vector<const FileTensor*> values;
  for (const Parameter* parameter : taken) {
    const Parameter& p = *parameter;
    const FileTensor* tensor = find(p.name);
    values.push_back(&require(tensor ? tensor : find("param." + p.name), p.name, p.shape, true, file));
    require_finite(*values.back(), program.view(p.value).dtype, file);
  }
  check_fixed(model, find, file);  // weights are meaningless without the wiring that they were trained with
  for (std::size_t i = 0; i < values.size(); ++i) set_values(program, taken[i]->value, *values[i]);
  for (const FixedTensor& fixed : model.fixed) set_values(program, fixed.value, *find(fixed.name));
  derive(model, program);
}

// Calls body(begin, numbers) for pieces of all elements of a parameter, in order, read by all cores.
template <typename Body>
void for_each_piece(const WeightSource& source, const Parameter& p, std::int64_t elements, Body&& body) {
  std::vector<float> piece(static_cast<std::size_t>(std::min(elements, kPiece)));
  const std::int64_t threads = cores_of_this_process();
  for (std::int64_t begin = 0; begin < elements; begin += kPiece) {
    const std::span<float> numbers = std::span(piece).first(static_cast<std::size_t>(std::min(kPiece, elements - begin)));
    const auto count = static_cast<std::int64_t>(numbers.size());
    on_threads(threads, [&](std::int64_t thread) {
      const std::int64_t from = count * thread / threads, to = count * (thread + 1) / threads;
      const auto part = numbers.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
      if (!part.empty()) source.read(p.name, begin + from, part);
    });
    body(begin, numbers);
  }
}

}  // namespace

void initialize_from(const Model& model, Program& program, const Pretrained& source) {
  require_same(*source.architecture(), source.path(), *model.architecture);
  const std::vector<const Parameter*> taken = taken_from_files(model);
  for (const Parameter* parameter : taken) {  // check everything before replacing anything
    const Parameter& p = *parameter;
    const TensorView view = program.view(p.value);
    for_each_piece(source, p, view.elements(), [&](std::int64_t, std::span<const float> numbers) {
      require_finite({p.name, DType::f32, {}, std::as_bytes(numbers)}, view.dtype, source.path());
    });
  }
  for (const Parameter* parameter : taken) {
    const Parameter& p = *parameter;
    const TensorView view = program.view(p.value);
    for_each_piece(source, p, view.elements(), [&](std::int64_t begin, std::span<const float> numbers) {
      dispatch_stored(view.dtype, [&](auto zero) {
        std::vector<decltype(zero)> stored(numbers.size());
        for (std::size_t i = 0; i < numbers.size(); ++i) narrow(numbers[i], stored[i]);
        program.write(p.value, stored.data(), stored.size() * sizeof zero, static_cast<Bytes>(begin) * sizeof zero);
      });
    });
  }
  derive(model, program);
}

void initialize_from(const Model& model, Program& program, const Safetensors& file) {
  take_weights(
      model, program, [&](const std::string& name) { return file.find(name); }, file.path());
}

void initialize_from(const Model& model, Program& program, const Checkpoint& file) {
  std::vector<std::string> names;
  for (const Parameter* p : taken_from_files(model)) names.push_back(p->name);
  for (const FixedTensor& fixed : model.fixed) names.push_back(fixed.name);
  file.verify(names);
  take_weights(
      model, program, [&](const std::string& name) { return file.find(name); }, file.path());
}

void initialize_from(const Model& model, Program& program, const std::string& file) {
  if (is_pretrained(file)) initialize_from(model, program, *open_pretrained(file));
  else if (is_checkpoint(file)) initialize_from(model, program, Checkpoint(file));
  else initialize_from(model, program, Safetensors(file));
}

std::vector<std::string> weight_names(const Model& model) {
  std::vector<std::string> names;
  for (const Parameter& p : model.parameters)
    if (p.rule != UpdateRule::none) names.push_back(p.name);
  for (const FixedTensor& fixed : model.fixed) names.push_back(fixed.name);
  return names;
}

namespace {

// Reads W + scale B A piece by piece, rounded to the type in which W is stored.
std::function<void(Bytes, std::span<std::byte>)> merged(const Model& model, const Program& program, const Parameter& p) {
  return [&model, &program, &p](Bytes begin, std::span<std::byte> to) {
    const auto numbers = [&](std::size_t place) {
      std::vector<float> values(static_cast<std::size_t>(program.view(model.parameters[place].value).elements()));
      program.read(model.parameters[place].value, values.data(), values.size() * sizeof(float));
      return values;
    };
    const std::vector<float> a = numbers(p.adapter.a), b = numbers(p.adapter.b);
    const auto in = static_cast<std::size_t>(p.shape[1]), rank = static_cast<std::size_t>(model.options.lora.rank);
    const double scale = model.options.lora.scale();
    program.read(p.value, to.data(), to.size(), begin);
    dispatch_stored(program.view(p.value).dtype, [&](auto zero) {
      using Stored = decltype(zero);
      const std::size_t first = begin / sizeof(Stored);
      for (std::size_t k = 0; k < to.size() / sizeof(Stored); ++k) {
        const std::size_t row = (first + k) / in, column = (first + k) % in;
        double sum = 0;
        for (std::size_t r = 0; r < rank; ++r)
          sum += static_cast<double>(b[row * rank + r]) * static_cast<double>(a[r * in + column]);
        Stored value;
        std::memcpy(&value, to.data() + k * sizeof value, sizeof value);
        narrow(static_cast<float>(static_cast<double>(widen(value)) + scale * sum), value);
        std::memcpy(to.data() + k * sizeof value, &value, sizeof value);
      }
    });
  };
}

}  // namespace

bool export_parameters(const Model& model, const Program& program, const std::string& file, const Tokenizer* tokenizer,
                       Existing existing) {
  std::vector<TensorToWrite> tensors;
  const auto put = [&](const std::string& name, TensorId id, const Shape& shape) {
    tensors.push_back({name, program.view(id).dtype, shape, nullptr,
                       [&program, id](Bytes begin, std::span<std::byte> to) { program.read(id, to.data(), to.size(), begin); }});
  };
  for (const Parameter* p : taken_from_files(model)) {
    put(p->name, p->value, p->shape);
    if (p->adapter.a > 0) tensors.back().read = merged(model, program, *p);
  }
  for (const FixedTensor& fixed : model.fixed) put(fixed.name, fixed.value, fixed.shape);
  std::map<std::string, std::string> metadata = {{"architecture", model.architecture->json()},
                                                 {"document_end", std::to_string(model.options.document_end)}};
  if (tokenizer) {
    const std::string& bytes = tokenizer->model();
    tensors.push_back({kTokenizerTensor, DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes.data()});
    metadata["tokenizer"] = fmt::format("{:016x}", tokenizer->hash());
  }
  return write_safetensors(file, metadata, tensors, existing);
}

}  // namespace neurogen

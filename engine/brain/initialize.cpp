#include "engine/brain/initialize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "arena/error.h"
#include "engine/files/checkpoint.h"
#include "engine/files/finite.h"
#include "kernels/half.h"
#include "kernels/random.h"
#include "kernels/thread_pool.h"

namespace neurogen {
namespace {

// Random streams: parameter i draws from stream i, module m's wiring from kWiringStream + m.
constexpr std::uint64_t kWiringStream = 1000;
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

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

void fill_parameter(Program& program, const Parameter& p, std::uint64_t seed, std::uint64_t stream) {
  const auto normals = [&](double deviation) {
    fill(program, p.value, [=](std::int64_t i) { return deviation * normal(seed, stream, static_cast<std::uint64_t>(i)); });
  };
  if (p.name == "embedding.weight") return normals(0.25);
  if (p.name == "decoder.weight") return normals(0.02 * std::sqrt(768.0 / static_cast<double>(p.shape[1])));
  if (ends_with(p.name, ".synapses")) return normals(1 / std::sqrt(static_cast<double>(p.shape[1])));
  if (ends_with(p.name, ".gain") || ends_with(p.name, ".gate_bias"))
    return fill(program, p.value, [](std::int64_t) { return 1.0; });
  if (ends_with(p.name, ".taps")) {  // each neuron hears its sum without delay
    const std::int64_t now = p.shape[1] * p.shape[2];
    return fill(program, p.value, [=](std::int64_t i) { return i < now ? 1.0 : 0.0; });
  }
  if (ends_with(p.name, ".retain")) {
    for (int m = 0; m < kModules; ++m) {
      const auto module = static_cast<ModuleIndex>(m);
      if (p.name != std::string(name_of(module)) + ".retain") continue;
      const double low = std::log(time_constants_of(module).shortest), high = std::log(time_constants_of(module).longest);
      fill(program, p.value, [=](std::int64_t i) {
        const double tau = std::exp(low + uniform(seed, stream, static_cast<std::uint64_t>(i)) * (high - low));
        return std::log(std::max(tau, 1.05) - 1);
      });
    }
    return;
  }
  fill(program, p.value, [](std::int64_t) { return 0.0; });
}

using Wiring = std::vector<std::int32_t>;  // [G, K] block ids

// Deals each group distinct source blocks from shuffled decks, so that all blocks are used almost equally often.
Wiring deal_wiring(const Module& module, std::uint64_t seed, std::uint64_t stream) {
  const std::int64_t per_group = module.blocks_per_group();
  Wiring wiring(static_cast<std::size_t>(module.groups() * per_group));
  std::vector<std::int32_t> deck;
  std::uint64_t drawn = 0;
  for (std::int64_t g = 0; g < module.groups(); ++g) {
    std::int32_t* hand = wiring.data() + g * per_group;
    for (std::int64_t k = 0; k < per_group;) {
      const auto fresh =
          std::find_if(deck.begin(), deck.end(), [&](std::int32_t b) { return std::find(hand, hand + k, b) == hand + k; });
      if (fresh != deck.end()) {
        hand[k++] = *fresh;
        deck.erase(fresh);
        continue;
      }
      const std::size_t begin = deck.size();
      deck.resize(begin + static_cast<std::size_t>(module.blocks()));
      std::iota(deck.begin() + static_cast<std::ptrdiff_t>(begin), deck.end(), 0);
      for (std::size_t i = deck.size() - 1; i > begin; --i)
        std::swap(deck[i], deck[begin + below(i - begin + 1, seed, stream, drawn++)]);
    }
  }
  return wiring;
}

Bytes bytes_of(const Wiring& wiring) { return wiring.size() * sizeof(std::int32_t); }

// Checks that a file's tensor is present, in this shape and with a floating-point or integer type.
const FileTensor& require(const FileTensor* tensor, const std::string& name, const Shape& shape, bool floating,
                          const std::string& file) {
  if (!tensor) throw Error(fmt::format("{}: {} is missing: use a file with all of a brain's parameters and wiring", file, name));
  if (tensor->shape != shape) {
    throw Error(fmt::format("{}: {} has shape {}, this architecture's is {}: use the --arch that the file was made with", file,
                            tensor->name, to_string(tensor->shape), to_string(shape)));
  }
  if (is_floating(tensor->dtype) != floating) {
    throw Error(fmt::format("{}: {} is {}, but {} numbers are needed: the file is damaged", file, tensor->name,
                            name_of(tensor->dtype), floating ? "floating-point" : "whole"));
  }
  return *tensor;
}

}  // namespace

void initialize(const Brain& brain, Program& program, std::uint64_t seed) {
  for (std::size_t i = 0; i < brain.parameters.size(); ++i) {
    const Parameter& p = brain.parameters[i];
    fill_parameter(program, p, seed, i);
  }
  for (int m = 0; m < kModules; ++m) {
    const Wiring wiring = deal_wiring(brain.architecture.modules[m], seed, kWiringStream + static_cast<std::uint64_t>(m));
    program.write(brain.wiring[m], wiring.data(), bytes_of(wiring));
  }
  derive(brain, program);
}

void derive(const Brain& brain, Program& program) { program.run(brain.graph.program("derive")); }

std::array<Wiring, kModules> read_wiring(const Architecture& architecture, const FindTensor& find, const std::string& file) {
  std::array<Wiring, kModules> wiring;
  for (int m = 0; m < kModules; ++m) {
    const Module& module = architecture.modules[m];
    const std::string name = "wiring." + std::string(name_of(static_cast<ModuleIndex>(m)));
    const FileTensor& tensor = require(find(name), name, {module.groups(), module.blocks_per_group()}, false, file);
    for (std::int64_t i = 0; i < tensor.elements(); ++i) {
      const std::int64_t block = tensor.integer(i);
      if (block < 0 || block >= module.blocks()) {
        throw Error(
            fmt::format("{}: {} names source block {}, there are {}: the file is damaged", file, name, block, module.blocks()));
      }
      wiring[m].push_back(static_cast<std::int32_t>(block));
    }
  }
  return wiring;
}

void require_finite(const FileTensor& tensor, DType stored, const std::string& file) {
  if (!all_finite(tensor.dtype, tensor.data))
    throw Error(fmt::format("{}: {} holds values that are not finite: use finite weights", file, tensor.name));
  const bool f16 = stored == DType::f16;
  if (tensor.dtype == stored || (tensor.dtype != DType::f64 && !f16)) return;  // `stored` can represent them all
  const double most = f16 ? kLargestF16 : FLT_MAX;
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    if (std::abs(tensor.real(i)) <= most) continue;
    throw Error(fmt::format("{}: {} holds {:g}, which is infinite in {}: use another --compute or --decoder-storage", file,
                            tensor.name, tensor.real(i), name_of(stored)));
  }
}

void set_values(Program& program, TensorId id, const FileTensor& from) {
  if (from.dtype != program.view(id).dtype) fill(program, id, [&](std::int64_t i) { return from.real(i); });
  else program.write(id, from.data.data(), from.data.size());
}

namespace {

void take_parameters(const Brain& brain, Program& program, const FindTensor& find, const std::string& file) {
  // Check everything before replacing anything.
  std::vector<const FileTensor*> values;
  for (const Parameter& p : brain.parameters) {
    const FileTensor* tensor = find(p.name);
    values.push_back(&require(tensor ? tensor : find("param." + p.name), p.name, p.shape, true, file));
    require_finite(*values.back(), program.view(p.value).dtype, file);
  }
  // Weights are meaningless without the wiring that they were trained with.
  const std::array<Wiring, kModules> wiring = read_wiring(brain.architecture, find, file);
  for (std::size_t i = 0; i < values.size(); ++i) set_values(program, brain.parameters[i].value, *values[i]);
  for (int m = 0; m < kModules; ++m) program.write(brain.wiring[m], wiring[m].data(), bytes_of(wiring[m]));
  derive(brain, program);
}

}  // namespace

void initialize_from(const Brain& brain, Program& program, const std::string& file) {
  if (is_checkpoint(file)) {
    const Checkpoint source(file);
    source.verify(parameters_and_wiring(source.manifest().architecture));
    take_parameters(
        brain, program, [&](const std::string& name) { return source.find(name); }, file);
  } else {
    const Safetensors source(file);
    take_parameters(
        brain, program, [&](const std::string& name) { return source.find(name); }, file);
  }
}

void export_parameters(const Brain& brain, const Program& program, const std::string& file, const Tokenizer* tokenizer) {
  std::vector<TensorToWrite> tensors;
  const auto put = [&](const std::string& name, TensorId id, const Shape& shape) {
    tensors.push_back({name, program.view(id).dtype, shape, nullptr,
                       [&program, id](Bytes begin, std::span<std::byte> to) { program.read(id, to.data(), to.size(), begin); }});
  };
  for (const Parameter& p : brain.parameters) put(p.name, p.value, p.shape);
  for (int m = 0; m < kModules; ++m) {
    const Module& module = brain.architecture.modules[m];
    put("wiring." + std::string(name_of(static_cast<ModuleIndex>(m))), brain.wiring[m],
        {module.groups(), module.blocks_per_group()});
  }
  std::map<std::string, std::string> metadata = {{"architecture", to_json(brain.architecture)},
                                                 {"document_end", std::to_string(brain.options.document_end)}};
  if (tokenizer) {
    const std::string& model = tokenizer->model();
    tensors.push_back({kTokenizerTensor, DType::u8, {static_cast<std::int64_t>(model.size())}, model.data()});
    metadata["tokenizer"] = fmt::format("{:016x}", tokenizer->hash());
  }
  write_safetensors(file, metadata, tensors);
}

}  // namespace neurogen

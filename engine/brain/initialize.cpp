#include "engine/brain/initialize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "arena/error.h"
#include "engine/files/safetensors.h"
#include "kernels/dispatch.h"
#include "kernels/random.h"
#include "kernels/synapses.h"

namespace neurogen {
namespace {

// Random streams: parameter i draws from stream i, module m's wiring from kWiringStream + m.
constexpr std::uint64_t kWiringStream = 1000;
constexpr std::int64_t kChunk = 65536;  // elements a thread fills at a time

template <typename Value>
void fill(CpuDevice& device, const TensorView& view, Value&& value) {
  const std::int64_t n = view.elements();
  dispatch_real(view.dtype, [&](auto zero) {
    using Real = decltype(zero);
    device.parallel((n + kChunk - 1) / kChunk, [&](std::int64_t chunk, int) {
      const std::int64_t end = std::min(n, (chunk + 1) * kChunk);
      for (std::int64_t i = chunk * kChunk; i < end; ++i) view.as<Real>()[i] = static_cast<Real>(value(i));
    });
  });
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

void fill_parameter(CpuDevice& device, const Parameter& p, const TensorView& view, std::uint64_t seed,
                    std::uint64_t stream) {
  const auto normals = [&](double deviation) {
    fill(device, view, [=](std::int64_t i) { return deviation * normal(seed, stream, static_cast<std::uint64_t>(i)); });
  };
  if (p.name == "embedding.weight") return normals(0.25);
  if (p.name == "decoder.weight") return normals(0.02 * std::sqrt(768.0 / static_cast<double>(p.shape[1])));
  if (ends_with(p.name, ".synapses")) return normals(1 / std::sqrt(static_cast<double>(p.shape[1])));
  if (ends_with(p.name, ".gain") || ends_with(p.name, ".gate_bias")) return fill(device, view, [](std::int64_t) { return 1.0; });
  if (ends_with(p.name, ".retain")) {
    for (int m = 0; m < kModules; ++m) {
      const auto module = static_cast<ModuleIndex>(m);
      if (p.name != std::string(name_of(module)) + ".retain") continue;
      const double low = std::log(time_constants_of(module).shortest), high = std::log(time_constants_of(module).longest);
      fill(device, view, [=](std::int64_t i) {
        const double tau = std::exp(low + uniform(seed, stream, static_cast<std::uint64_t>(i)) * (high - low));
        return std::log(std::max(tau, 1.05) - 1);
      });
    }
    return;
  }
  fill(device, view, [](std::int64_t) { return 0.0; });
}

// Deals `per_group` different source blocks to every group from shuffled decks, so that all are used almost equally often.
void deal_wiring(const TensorView& wiring, std::int64_t blocks, std::uint64_t seed, std::uint64_t stream) {
  std::vector<std::int32_t> deck;
  std::uint64_t drawn = 0;
  for (std::int64_t g = 0; g < wiring[0]; ++g) {
    std::int32_t* hand = wiring.as<std::int32_t>() + g * wiring[1];
    for (std::int64_t k = 0; k < wiring[1];) {
      const auto fresh = std::find_if(deck.begin(), deck.end(), [&](std::int32_t b) { return std::find(hand, hand + k, b) == hand + k; });
      if (fresh != deck.end()) {
        hand[k++] = *fresh;
        deck.erase(fresh);
        continue;
      }
      const std::size_t begin = deck.size();
      deck.resize(begin + static_cast<std::size_t>(blocks));
      std::iota(deck.begin() + static_cast<std::ptrdiff_t>(begin), deck.end(), 0);
      for (std::size_t i = deck.size() - 1; i > begin; --i) std::swap(deck[i], deck[begin + below(i - begin + 1, seed, stream, drawn++)]);
    }
  }
}

}  // namespace

void initialize(const Brain& brain, Program& program, std::uint64_t seed) {
  for (std::size_t i = 0; i < brain.parameters.size(); ++i) {
    const Parameter& p = brain.parameters[i];
    fill_parameter(program.device(), p, program.view(p.value), seed, i);
  }
  for (int m = 0; m < kModules; ++m) {
    deal_wiring(program.view(brain.wiring[m]), brain.architecture.modules[m].blocks(), seed, kWiringStream + static_cast<std::uint64_t>(m));
  }
  derive(brain, program);
}

void derive(const Brain& brain, Program& program) {
  for (int m = 0; m < kModules; ++m) {
    if (!brain.readers[m]) continue;  // a stream has no backward pass
    synapses_readers(program.device(),
                     {program.view(brain.wiring[m]), program.view(brain.reader_start[m]), program.view(brain.readers[m])});
  }
}

void initialize_from(const Brain& brain, Program& program, const std::string& file) {
  const Safetensors source(file);
  const auto find = [&](const std::string& name, const std::string& golden) {
    const Safetensors::Tensor* tensor = source.find(name);
    return tensor ? tensor : source.find(golden);
  };
  const auto check = [&](const Safetensors::Tensor& tensor, const Shape& shape) {
    if (tensor.shape != shape) {
      throw Error(fmt::format("{}: {} has shape {}, this architecture's is {}: use the --arch that the file was made with", file,
                              tensor.name, to_string(tensor.shape), to_string(shape)));
    }
  };
  const auto require = [&](const Safetensors::Tensor* tensor, const std::string& name) {
    if (!tensor) throw Error(fmt::format("{}: {} is missing: use a file with all of a brain's parameters and wiring", file, name));
  };
  // Everything is checked before anything is replaced.
  std::vector<const Safetensors::Tensor*> values;
  for (const Parameter& p : brain.parameters) {
    values.push_back(find(p.name, "param." + p.name));
    require(values.back(), p.name);
    check(*values.back(), p.shape);
    if (!is_floating(values.back()->dtype)) {
      throw Error(fmt::format("{}: {} is {}, but floating-point numbers are needed: the file is damaged", file, p.name,
                              name_of(values.back()->dtype)));
    }
  }
  std::array<std::vector<std::int32_t>, kModules> wiring;
  for (int m = 0; m < kModules; ++m) {
    const Module& module = brain.architecture.modules[m];
    const std::string name = "wiring." + std::string(name_of(static_cast<ModuleIndex>(m)));
    const Safetensors::Tensor* tensor = source.find(name);
    require(tensor, name);  // weights mean nothing without the sources that they were learned for
    check(*tensor, {module.groups(), module.blocks_per_group()});
    wiring[m].resize(static_cast<std::size_t>(tensor->elements()));
    source.read_as_int32(name, wiring[m]);
    for (std::int32_t block : wiring[m]) {
      if (block < 0 || block >= module.blocks()) {
        throw Error(fmt::format("{}: {} names source block {}, there are {}: the file is damaged", file, name, block, module.blocks()));
      }
    }
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const TensorView view = program.view(brain.parameters[i].value);
    const auto count = static_cast<std::size_t>(view.elements());
    if (view.dtype == DType::f64) source.read_as_double(values[i]->name, {view.as<double>(), count});
    else source.read_as_float(values[i]->name, {view.as<float>(), count});
  }
  for (int m = 0; m < kModules; ++m) {
    std::copy(wiring[m].begin(), wiring[m].end(), program.view(brain.wiring[m]).as<std::int32_t>());
  }
  derive(brain, program);
}

void export_parameters(const Brain& brain, const Program& program, const std::string& file, const std::string& tokenizer) {
  std::vector<TensorToWrite> tensors;
  for (const Parameter& p : brain.parameters) {
    const TensorView view = program.view(p.value);
    tensors.push_back({p.name, view.dtype, p.shape, view.data});
  }
  for (int m = 0; m < kModules; ++m) {
    const Module& module = brain.architecture.modules[m];
    tensors.push_back({"wiring." + std::string(name_of(static_cast<ModuleIndex>(m))), DType::i32,
                       {module.groups(), module.blocks_per_group()}, program.view(brain.wiring[m]).data});
  }
  write_safetensors(file, {{"architecture", to_json(brain.architecture)}, {"tokenizer", tokenizer}}, tensors);
}

}  // namespace neurogen

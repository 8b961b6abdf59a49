// Buffers of an invented training run, shaped like real ones: outputs kept for the backward pass, currents that are not kept.
#pragma once
#include <fmt/format.h>

#include "arena/plan.h"

namespace neurogen {

inline PlanRequest training_graph(std::int64_t tokens, int tiles = 4) {
  PlanRequest request;
  const auto op = [&](const std::string& name) {
    request.operations.push_back(name);
    return static_cast<std::int64_t>(request.operations.size()) - 1;
  };
  const auto buffer = [&](const std::string& name, DType dtype, Shape shape, std::int64_t first, std::int64_t last,
                          BufferKind kind = BufferKind::transient) {
    request.buffers.push_back(
        {.name = name, .dtype = dtype, .shape = std::move(shape), .kind = kind, .first_op = first, .last_op = last});
    return request.buffers.size() - 1;
  };
  struct Module {
    const char* name;
    std::int64_t outputs, roles;
  };
  const Module modules[] = {{"thalamus", 1024, 4},      {"wernicke", 8192, 5},   {"hippocampus", 4096, 5},
                            {"basal_ganglia", 2048, 5}, {"prefrontal", 8192, 5}, {"broca", 8192, 5}};
  for (const char* state : {"", ".m", ".v"}) {
    for (const Module& m : modules) {
      buffer(fmt::format("{}.synapses{}", m.name, state), DType::f32, {m.outputs / 32, 96, 32 * m.roles}, 0, 0,
             BufferKind::persistent);
      buffer(fmt::format("{}.bias{}", m.name, state), DType::f32, {m.roles, m.outputs}, 0, 0, BufferKind::persistent);
    }
  }
  buffer("decoder.weight", DType::bf16, {32000, 8192}, 0, 0, BufferKind::persistent);
  buffer("control", DType::u8, {32}, 0, 0, BufferKind::derived);
  for (const Module& m : modules) {
    buffer(fmt::format("{}.synapses.bf16", m.name), DType::bf16, {m.outputs / 32, 96, 32 * m.roles}, 0, 0, BufferKind::derived);
  }
  request.buffers.push_back(
      {.name = "batch slot", .dtype = DType::u16, .shape = {2, tokens + 1}, .arena = ArenaKind::host, .kind = BufferKind::derived});

  std::vector<std::size_t> kept;
  for (const Module& m : modules) {
    const std::int64_t begin = op(fmt::format("{} sources", m.name));
    kept.push_back(buffer(fmt::format("{}.out", m.name), DType::bf16, {tokens, m.outputs}, begin, begin));
    const std::size_t before_norm = buffer(fmt::format("{}.pre_norm", m.name), DType::f32, {tokens, m.outputs}, begin, begin);
    for (int t = 0; t < tiles; ++t) {
      const std::int64_t now = op(fmt::format("{} synapses {}", m.name, t));
      buffer(fmt::format("{}.currents {}", m.name, t), DType::f32, {tokens, m.outputs * m.roles / tiles}, now, now + 1);
      op(fmt::format("{} microcircuit {}", m.name, t));
    }
    request.buffers[before_norm].last_op = op(fmt::format("{} norm", m.name));
  }
  const std::int64_t logits_born = op("decoder");
  const std::size_t logits = buffer("decoder.logits", DType::bf16, {tokens, 32000}, logits_born, logits_born);
  const std::size_t d_broca = buffer("broca.d_out", DType::f32, {tokens, 8192}, op("decoder d_broca"), logits_born);
  for (int t = 0; t < 5; ++t) {
    const std::int64_t now = op(fmt::format("decoder gradient {}", t));
    buffer(fmt::format("decoder.gradient {}", t), DType::f32, {6400, 8192}, now, now + 1);
    request.buffers[logits].last_op = op(fmt::format("decoder update {}", t));
  }
  for (int i = 5; i >= 0; --i) {
    const Module& m = modules[i];
    const std::int64_t begin = op(fmt::format("{} d_norm", m.name));
    const std::size_t d_sources = buffer(fmt::format("{}.d_sources", m.name), DType::f32, {tokens, m.outputs}, begin, begin);
    for (int t = 0; t < tiles; ++t) {
      const std::int64_t now = op(fmt::format("{} currents again {}", m.name, t));
      buffer(fmt::format("{}.currents again {}", m.name, t), DType::f32, {tokens, m.outputs * m.roles / tiles}, now, now + 1);
      buffer(fmt::format("{}.d_currents {}", m.name, t), DType::f32, {tokens, m.outputs * m.roles / tiles}, now + 1, now + 2);
      op(fmt::format("{} microcircuit backward {}", m.name, t));
      op(fmt::format("{} synapses backward {}", m.name, t));
    }
    request.buffers[kept[static_cast<std::size_t>(i)]].last_op = op(fmt::format("{} AdamW", m.name));
    request.buffers[d_sources].last_op = static_cast<std::int64_t>(request.operations.size()) - 1;
  }
  request.buffers[d_broca].last_op = request.buffers[d_broca].first_op + 20;
  return request;
}

}  // namespace neurogen

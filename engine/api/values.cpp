// Reads and writes what is in an engine: outputs, losses, logits and parameters.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "arena/error.h"
#include "engine/api/answer.h"
#include "engine/api/state.h"
#include "engine/model/initialize.h"

namespace neurogen {
namespace {

// The place of a module among the probes. Throws Error that lists them.
std::size_t module_of(const Model& model, std::string_view name) {
  const auto found = std::find_if(model.probes.begin(), model.probes.end(), [&](const Probe& probe) { return probe.name == name; });
  if (found != model.probes.end()) return static_cast<std::size_t>(found - model.probes.begin());
  std::vector<std::string_view> names;
  for (const Probe& probe : model.probes) names.push_back(probe.name);
  throw Error({Field("module"), fmt::format(" is \"{}\": use {}", name, fmt::join(names, ", "))});
}

const Parameter& parameter_of(const Model& model, std::string_view name) {
  for (const Parameter& p : model.parameters) {
    if (p.name == name) return p;
  }
  throw Error({Field("name"), fmt::format(" is \"{}\": use one that parameters() lists", name)});
}

// The shape becomes text, which allocates, only where it is wrong.
void check_values(const char* field, std::size_t size, const TensorView& view, const Parameter& parameter) {
  if (static_cast<std::int64_t>(size) != view.elements()) check_size(field, size, view.elements(), to_string(parameter.shape));
}

// Copies the first `rows` rows of a tensor to `out`, `at_once` at a time.
void copy_rows(Readout& readout, TensorId tensor, std::int64_t rows, std::int64_t at_once, std::span<float> out) {
  auto to = out.begin();
  for (std::int64_t row = 0; row < rows; row += at_once) {
    const auto values = readout.rows(tensor, row, std::min(at_once, rows - row));
    to = std::copy(values.begin(), values.end(), to);
  }
}

}  // namespace

Result<std::span<const float>> Engine::embedding_row(std::int64_t id) const {
  using Row = std::span<const float>;
  return answer<Row>([&] {
    if (state_->place.gpu)
      throw Error("the embedding is in GPU memory, which the host cannot read: copy the row with read_embedding_row");
    check_row(id, vocabulary());
    const TensorView row = state_->program.view(state_->embedding).rows(id, 1);
    return Row(row.as<const float>(), static_cast<std::size_t>(row.elements()));
  });
}

Status Engine::read_embedding_row(std::int64_t id, std::span<float> out) const {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    check_row(id, vocabulary());
    check_size("out", out.size(), embedding_width(), "the embedding's width");
    const auto row = state_->readout.rows(state_->embedding, id, 1);
    std::copy(row.begin(), row.end(), out.begin());
    return std::monostate{};
  });
}

std::vector<std::string_view> Engine::modules() const {
  std::vector<std::string_view> names;
  for (const Probe& probe : state_->model.probes) names.push_back(probe.name);
  return names;
}

Result<std::int64_t> Engine::outputs(std::string_view module) const {
  return answer<std::int64_t>([&] { return state_->width(state_->model.probes[module_of(state_->model, module)]); });
}

Status Engine::read_output(std::string_view module, std::span<float> out) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    State& s = *state_;
    const Probe& probe = s.model.probes[module_of(s.model, module)];
    const std::int64_t rows = s.model.options.tokens(), width = s.width(probe);
    check_size("out", out.size(), rows * width, "batch x window x outputs");
    if (!s.batch_there) throw Error("there is no batch yet: train or evaluate first");
    s.program.run({s.model.programs.evaluate.begin, probe.end});
    copy_rows(s.readout, probe.output, rows, kRowsAtOnce, out);
    return std::monostate{};
  });
}

Status Engine::losses(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids, std::span<float> out) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    State& s = *state_;
    const std::int64_t tokens = s.model.options.tokens();
    check_size("out", out.size(), tokens, "batch x window");
    s.take_batch(input_ids, target_ids);
    s.program.run(s.model.programs.evaluate);
    copy_rows(s.readout, s.model.token_losses, tokens, kRowsAtOnce, out);
    return std::monostate{};
  });
}

Status Engine::logits(std::span<const std::int32_t> input_ids, std::span<float> out) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    State& s = *state_;
    const std::int64_t tokens = s.model.options.tokens(), pieces = vocabulary();
    check_size("out", out.size(), tokens * pieces, "batch x window x vocabulary");
    s.take_batch(input_ids, input_ids);
    const auto cap = static_cast<float>(s.model.architecture->softcap());
    std::size_t begin = s.model.programs.evaluate.begin;
    std::int64_t column = 0;
    for (const LogitsTile& tile : s.model.logits_tiles) {
      s.program.run({begin, tile.end});
      begin = tile.end;
      for (std::int64_t row = 0; row < tokens; ++row) {
        const auto values = s.readout.rows(tile.logits, row, 1).first(static_cast<std::size_t>(tile.tokens));
        const auto to = out.begin() + row * pieces + column;
        std::transform(values.begin(), values.end(), to, [&](float x) { return cap > 0 ? cap * std::tanh(x / cap) : x; });
      }
      column += tile.tokens;
    }
    return std::monostate{};
  });
}

std::vector<ParameterInfo> Engine::parameters() const {
  std::vector<ParameterInfo> list;
  for (const Parameter& p : state_->model.parameters) list.push_back({p.name, p.shape});
  return list;
}

Status Engine::read_parameter(std::string_view name, std::span<float> out) const {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    const Parameter& p = parameter_of(state_->model, name);
    const TensorView view = state_->program.view(p.value);
    check_values("out", out.size(), view, p);
    copy_rows(state_->readout, p.value, view[0], 1, out);
    return std::monostate{};
  });
}

Status Engine::write_parameter(std::string_view name, std::span<const float> values) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    State& s = *state_;
    const Parameter& p = parameter_of(s.model, name);
    const TensorView view = s.program.view(p.value);
    check_values("values", values.size(), view, p);
    const FileTensor from{p.name, DType::f32, p.shape, std::as_bytes(values)};
    require_finite(from, view.dtype, Field("values"));
    set_values(s.program, p.value, from);
    derive(s.model, s.program);
    return std::monostate{};
  });
}

Status Engine::export_weights(std::string_view path) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    export_parameters(state_->model, state_->program, std::string(path), state_->tokenizer.get());
    return std::monostate{};
  });
}

}  // namespace neurogen

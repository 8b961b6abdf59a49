#include "engine/model/assembly.h"

#include <algorithm>
#include <cmath>

#include "kernels/cast.h"
#include "kernels/copy.h"
#include "kernels/documents.h"
#include "kernels/loss_scale.h"
#include "kernels/running_mean.h"

namespace neurogen {

Assembly::Assembly(Model& m)
    : model(m),
      graph(m.graph),
      options(m.options),
      real(options.real()),
      compute(options.compute),
      gradient(compute == DType::bf16 ? compute : real),
      element_bytes(static_cast<double>(size_of(compute))) {}

ParameterId Assembly::declare(ParameterSpec spec, DType type, BufferKind kind) {
  Parameter p{std::move(spec), {}, {}, {}, {}, {}, {}, {}, {}, {}, -1, model.parameters.size() + 1};
  p.value = graph.tensor(p.name, type, p.shape, kind);
  model.parameters.push_back(std::move(p));
  return model.parameters.size() - 1;
}

ParameterId Assembly::parameter(ParameterSpec spec) {
  if (options.lora.rank > 0) {
    spec.rule = UpdateRule::none;
    const DType type = spec.shape.size() == 2 ? compute : real;
    return declare(std::move(spec), type, BufferKind::loaded);
  }
  const DType type = spec.rule == UpdateRule::adafactor              ? options.decoder_storage
                     : options.narrow_weights && stored_narrow(spec) ? options.narrow()
                                                                     : real;
  return declare(std::move(spec), type, BufferKind::persistent);
}

void Assembly::adapt(ParameterId matrix, const std::string& short_name) {
  const std::vector<std::string>& targets = options.lora.targets;
  if (options.lora.rank == 0 || std::find(targets.begin(), targets.end(), short_name) == targets.end()) return;
  const std::string name = model.parameters[matrix].name;
  const std::int64_t rank = options.lora.rank, out = model.parameters[matrix].shape[0], in = model.parameters[matrix].shape[1];
  const double deviation = 1 / std::sqrt(3 * static_cast<double>(in));  // of what PyTorch draws for a linear layer
  const ParameterSpec first{name + ".lora_a", {rank, in}, UpdateRule::adamw, normals(deviation), true};
  const ParameterSpec second{name + ".lora_b", {out, rank}, UpdateRule::adamw, constant(0), true};
  const ParameterId a = declare(first, real, BufferKind::persistent), b = declare(second, real, BufferKind::persistent);
  model.parameters[matrix].adapter = {a, b};
}

TensorId Assembly::fixed(FixedTensor tensor) {
  tensor.value = persistent(tensor.name, DType::i32, tensor.shape);
  return model.fixed.emplace_back(std::move(tensor)).value;
}

TensorId Assembly::persistent(const std::string& name, DType type, const Shape& shape) {
  return graph.tensor(name, type, shape, BufferKind::persistent);
}

TensorId Assembly::derived(const std::string& name, DType type, const Shape& shape) {
  return graph.tensor(name, type, shape, BufferKind::derived);
}

TensorId Assembly::host(const char* name, DType type, const Shape& shape) {
  return graph.tensor(name, type, shape, BufferKind::derived, ArenaKind::host);
}

TensorId Assembly::state(const std::string& name, DType type, const Shape& shape) {
  return model.state.emplace_back(derived(name, type, shape));
}

TensorId Assembly::declare_gradient(ParameterId id) {
  Parameter& p = model.parameters[id];
  return p.rule == UpdateRule::none ? TensorId{} : p.gradient = graph.transient("d_" + p.name, real, p.shape);
}

TensorId Assembly::declare_mean_gradient(ParameterId id) {
  Parameter& p = model.parameters[id];
  return p.gradient = derived("mean_d_" + p.name, real, p.shape);
}

TensorId Assembly::operand(ParameterId id) const {
  const Parameter& p = model.parameters[id];
  return p.low ? p.low : p.value;
}

TensorId Assembly::operand(const std::string& product, ParameterId id) {
  const TensorId stored = operand(id);
  if (graph.tensors()[stored.index].dtype == compute) return stored;
  const TensorId copy = graph.transient(product + ".weights", compute, model.parameters[id].shape);
  graph.operation(product + ".cast", {stored}, {copy},
                  [=](auto& device, const Bindings& at) { cast(device, at[stored], at[copy]); });
  return copy;
}

bool Assembly::stored_narrow(const ParameterSpec& spec) const {
  return options.optimizer == Optimizer::adamw && options.lora.rank == 0 && spec.rule == UpdateRule::adamw &&
         spec.shape.size() == 2;
}

std::int64_t Assembly::rows_per_product() const {
  const std::int64_t sequences = std::max<std::int64_t>(1, 256 / options.window);
  return std::min(sequences, options.batch) * options.window;
}

std::vector<Section> Assembly::sections() const {
  const std::int64_t unit = rows_per_product(), units = (options.tokens() + unit - 1) / unit;
  const std::int64_t count = std::min(options.schedule.sections, units);
  std::vector<Section> list;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = i * units / count * unit;
    const std::int64_t end = std::min((i + 1) * units / count * unit, options.tokens());
    list.push_back({begin, end - begin});
  }
  return list;
}

TensorId Assembly::scratch(const std::string& name, std::int64_t elements) {
  if (options.target.gpu) return {};
  return graph.transient(name + ".scratch", real, {options.target.threads, elements});
}

Cost Assembly::product_cost(std::int64_t groups, std::int64_t m, std::int64_t n, std::int64_t k) const {
  const auto dm = static_cast<double>(m), dn = static_cast<double>(n), dk = static_cast<double>(k), g = static_cast<double>(groups);
  return {2 * g * dm * dn * dk, element_bytes * g * (dm * dk + dk * dn + dm * dn)};
}

void Assembly::read_control() {
  const TensorId from = model.ports.control, to = control;
  graph.operation("control", {from}, {to}, [=](auto& device, const Bindings& at) { copy(device, at[from], at[to]); });
  const TensorId scale = model.loss_scale;
  if (!scale) return;
  graph.operation("loss_scale.begin", {scale}, {to}, [=](auto& device, const Bindings& at) {
    loss_scale_begin(device, {at[scale], at[to]});
  });
}

void Assembly::add_share(TensorId total) {
  const TensorId all = counted, part = share = graph.transient("share", DType::f64, {1});
  graph.operation("share", {total}, {all, part}, [=](auto& device, const Bindings& at) {
    running_mean_share(device, {at[total], at[all], at[part]});
  });
}

void Assembly::add_to_mean(const std::string& name, TensorId value, TensorId mean, std::int64_t begin, TensorId rows,
                           TensorId count) {
  const TensorId part = share;
  graph.operation(name, {part, value, rows, count}, {mean}, [=](auto& device, const Bindings& at) {
    const TensorView to = rows ? at[mean] : at[mean].rows(begin, at[value][0]);
    running_mean(device, {at[part], at[value], to, at[rows], at[count]});
  });
}

Batch Assembly::read_batch(const std::string& prefix, TensorId from, bool with_targets, bool with_documents) {
  Batch batch;
  const std::int64_t n = options.tokens();
  const TensorId ids = batch.ids = graph.transient(prefix + "ids", DType::i32, {n});
  if (with_targets) batch.targets = graph.transient(prefix + "targets", DType::i32, {n});
  const TensorId targets = batch.targets;
  graph.operation(prefix + "read_batch", {from}, {ids, targets}, [=](auto& device, const Bindings& at) {
    copy(device, at[from].rows(0, 1), at[ids]);
    if (targets) copy(device, at[from].rows(1, 1), at[targets]);
  });
  if (!with_documents) return batch;
  const TensorId first = batch.first = graph.transient(prefix + "first", DType::i32, {n});
  const std::int64_t window = options.window, document_end = options.document_end;
  graph.operation(prefix + "documents", {ids}, {first}, [=](auto& device, const Bindings& at) {
    documents(device, {at[ids], window, document_end, at[first]});
  });
  return batch;
}

}  // namespace neurogen

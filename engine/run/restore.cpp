#include "engine/run/restore.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"
#include "engine/model/initialize.h"
#include "engine/run/staging.h"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

bool holds(DType type, DType all_of) {
  return type == all_of || type == DType::f64 || (type == DType::f32 && (all_of == DType::bf16 || all_of == DType::f16));
}

// Persistent tensors of the plan that the file holds.
std::vector<TensorId> saved_tensors(const Session& session, const Checkpoint& from) {
  const Plan& plan = session.arena.plan();
  std::vector<TensorId> ids = persistent_tensors(plan);
  std::erase_if(ids, [&](TensorId id) { return from.find(plan.buffers[id.index].name) == nullptr; });
  return ids;
}

// Checks that the plan has each of the file's first `count` tensors.
void check_known(const Checkpoint& from, const Plan& plan, std::size_t count) {
  for (const FileTensor& tensor : std::span(from.tensors()).first(count)) {
    const auto same = [&](const Buffer& b) { return b.kind == BufferKind::persistent && b.name == tensor.name; };
    if (tensor.name == kLossScaleName || std::any_of(plan.buffers.begin(), plan.buffers.end(), same)) continue;
    throw Error({fmt::format("{} has {}, which this architecture has not: use the ", from.path(), tensor.name),
                 Field("architecture"), " that it was made with"});
  }
}

// Checks that the loss scale is one that training can reach.
void check_loss_scale(const Checkpoint& from) {
  const FileTensor* state = from.find(kLossScaleName);
  if (!state) return;
  const std::int64_t scale = kFirstLossScale + state->integer(0), steps = from.manifest().standing.steps;
  const auto counts = [&](std::int64_t i, std::int64_t most) { return state->integer(i) >= 0 && state->integer(i) <= most; };
  if (scale < kLeastLossScale || scale > kMostLossScale || !counts(1, kLossScaleInterval - 1) || !counts(2, steps) ||
      !counts(3, steps)) {
    throw Error(from.path() + " is damaged: its loss scale is invalid: use the checkpoint before it");
  }
}

void stream(const Session& session, const Checkpoint& from) {
  const Plan& plan = session.arena.plan();
  // Read the file instead of copying from its mapping, which would wait for thousands of page faults.
  if (const FileRange all = from.image(plan); all.bytes > 0)
    return copy_to_gpu(session, all, session.arena.block(ArenaKind::device).data());
  for (const TensorId id : saved_tensors(session, from)) {
    const std::span<const std::byte> data = from.find(plan.buffers[id.index].name)->data;
    copy_to_gpu(session, data.data(), session.program.view(id).as<std::byte>(), data.size());
  }
}

}  // namespace

Conversion conversion(const Checkpoint& from, const Plan& plan) {
  check_known(from, plan, from.manifest().weights);
  Conversion result = Conversion::none;
  for (const TensorId id : persistent_tensors(plan)) {
    const Buffer& to = plan.buffers[id.index];
    const FileTensor* tensor = from.find(to.name);
    if (!tensor && to.name == kLossScaleName) continue;  // starts at its initial value
    if (!tensor || tensor->shape != to.shape) {
      throw Error({fmt::format("{} has no {} {}: use the ", from.path(), to.name, to_string(to.shape)), Field("architecture"),
                   " that it was made with"});
    }
    if (tensor->dtype == to.dtype) continue;
    if (!is_floating(tensor->dtype) || !is_floating(to.dtype)) {
      throw Error(fmt::format("{} is damaged: {} is {}, not {}: use the checkpoint before it", from.path(), to.name,
                              name_of(tensor->dtype), name_of(to.dtype)));
    }
    result = std::max(result, holds(to.dtype, tensor->dtype) ? Conversion::exact : Conversion::rounding);
  }
  return result;
}

void restore(Session& session, const Checkpoint& from) {
  const FindTensor find = [&](const std::string& name) { return from.find(name); };
  const Conversion how = conversion(from, session.arena.plan());
  check_fixed(session.model, find, from.path());
  if (session.model.loss_scale) check_loss_scale(from);
  if (session.begins_with != &from) {
    if (how == Conversion::none && session.model.ports.staging) {
      stream(session, from);
    } else {
      const std::vector<TensorId> ids = saved_tensors(session, from);
      const auto saved = [&](TensorId id) -> const FileTensor& { return *find(session.arena.plan().buffers[id.index].name); };
      // Check everything before replacing anything. Values that keep their type are finite: no other is ever saved.
      for (const TensorId id : ids) {
        if (const DType stored = session.program.view(id).dtype; saved(id).dtype != stored)
          require_finite(saved(id), stored, from.path());
      }
      for (const TensorId id : ids) set_values(session.program, id, saved(id));
    }
  }
  derive(session.model, session.program);
}

void go_on(Session& session, const Checkpoint& from, bool verify, bool convert) {
  const StepOptions& options = session.model.options;
  if (from.manifest().options.narrow_moments != options.narrow_moments) {
    const auto bits = [](bool narrow) { return narrow ? "8 bits" : "fp32"; };
    throw Error({fmt::format("{} stores moments in {}, this run in {}: choose the same ", from.path(),
                             bits(!options.narrow_moments), bits(options.narrow_moments)),
                 Field("moments")});
  }
  check_known(from, session.arena.plan(), from.tensors().size());
  if (verify) from.verify();
  if (!convert && options.narrow_weights && conversion(from, session.arena.plan()) == Conversion::rounding) {
    throw Error({from.path() + " stores weights in fp32, this run in 16 bits, which would round them: add ", Field("convert"),
                 ", or choose another ", Field("weights")});
  }
  if (!convert && conversion(from, session.arena.plan()) == Conversion::rounding) {
    throw Error({fmt::format("{} stores the decoder as {}, this run as {}, which would round it: add ", from.path(),
                             name_of(from.manifest().options.decoder_storage), name_of(session.model.options.decoder_storage)),
                 Field("convert"), ", or choose another ", Field("decoder_storage")});
  }
  restore(session, from);
}

}  // namespace neurogen

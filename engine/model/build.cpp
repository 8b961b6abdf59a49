// Builds models: declares their tensors and adds their programs, in one order for all families.
#include <algorithm>
#include <stdexcept>

#include "engine/model/embedding.h"
#include "engine/model/head.h"
#include "engine/model/trunk.h"
#include "engine/model/update.h"
#include "kernels/base/random.h"
#include "kernels/base/step_control.h"
#include "kernels/cast.h"
#include "kernels/checksum.h"
#include "kernels/copy.h"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

// A ring: the GPU copies some slots while threads read or write others. The bus stays busy only if several copies are queued, each
// long compared to the time that a thread takes to wake (docs/history.md).
constexpr std::int64_t kStagingSlot = std::int64_t{8} << 20;

// Options for one token of each text at a time.
StepOptions of_one_token(StepOptions options) {
  options.batch = options.streams, options.window = 1;
  options.schedule = {.tile_bytes = Bytes{1} << 62};  // one token is small: no tiles
  return options;
}

class Build {
 public:
  Build(ArchitecturePtr architecture, const StepOptions& options)
      : model_{std::move(architecture), options, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}, s_(model_), head_(s_) {}

  Model training() {
    const StepOptions& options = model_.options;
    Ports& ports = model_.ports;
    declare_batch();
    ports.norm = s_.host("metrics.norm", s_.real, {2});
    ports.control = s_.host("control.host", DType::u8, {sizeof(StepControl)});
    if (options.scaled()) ports.outcome = s_.host("metrics.control", DType::u8, {sizeof(StepControl)});
    declare_staging();
    if (options.stream) declare_stream();
    declare_weights(true);

    begin(model_.programs.train);
    if (!s_.accumulates()) s_.read_control();
    const Batch batch = s_.read_batch("", ports.batch, true, true);
    model_.features = trunk_->forward(batch, "", true);
    const TensorId d_features = head_.train(model_.features, batch.targets);
    update_known(s_);
    trunk_->backward(d_features);
    if (s_.accumulates()) end_micro_batch();
    add_update(s_);
    head_.end_step();
    end(s_.accumulates() ? model_.programs.end_step : model_.programs.train);
    if (s_.accumulates()) begin_step();

    evaluate();
    derive();
    if (options.stream) step("stream.");
    if (s_.several_ranks()) compare();
    return std::move(model_);
  }

  Model evaluation() {
    declare_batch();
    declare_staging();
    model_.ports.hits = s_.host("metrics.hits", DType::f64, {2});
    declare_weights(false);
    evaluate();
    derive();
    return std::move(model_);
  }

  Model stream() {
    declare_stream();
    declare_staging();
    declare_weights(false);
    step("");
    model_.options = s_.options;
    derive();
    return std::move(model_);
  }

 private:
  void declare_batch() {
    model_.ports.batch = s_.host("batch", DType::i32, {2, model_.options.tokens()});
    model_.ports.loss = s_.host("metrics.loss", DType::f64, {2});
  }
  void declare_staging() {
    if (model_.options.target.gpu) model_.ports.staging = s_.host("staging", DType::u8, {kStagingSlots, kStagingSlot});
  }
  void declare_stream() {
    model_.ports.token = s_.host("token.host", DType::i32, {1, model_.options.streams});
    model_.ports.position = s_.host("position.host", DType::i64, {2});
    model_.ports.logits = s_.host("logits.host", s_.real, {model_.options.streams, model_.architecture->vocabulary()});
  }

  // Persistent tensors come first in every plan, parameters before the optimizer's state.
  void declare_weights(bool training) {
    trunk_ = model_.architecture->trunk(s_);
    trunk_->declare_parameters();
    head_.declare_parameters();
    trunk_->declare_fixed();
    if (training) {
      declare_moments(s_);
      head_.declare_statistics();
      if (model_.options.scaled())
        model_.loss_scale = s_.persistent(kLossScaleName, DType::i32, {sizeof(LossScaleState) / sizeof(std::int32_t)});
      s_.control = s_.derived("control", DType::u8, {sizeof(StepControl)});
      if (s_.accumulates()) s_.counted = s_.derived("counted", DType::f64, {1});
      trunk_->declare_derived();
    }
    if (const Bytes workspace = model_.options.target.workspace; workspace > 0)
      model_.workspace = s_.derived("matmul.workspace", DType::u8, {static_cast<std::int64_t>(workspace)});
    for (Parameter& p : model_.parameters) {
      const bool wide = model_.graph.tensors()[p.value.index].dtype == s_.real;
      if (p.operand && s_.compute != s_.real && wide) p.low = s_.derived(p.name + ".low", s_.compute, p.shape);
    }
  }

  void begin(Graph::Range& program) { program.begin = model_.graph.begin_program(); }
  void end(Graph::Range& program) { program.end = model_.graph.operations().size(); }

  void end_micro_batch() {
    collect_gradients(s_);
    end(model_.programs.train);
    begin(model_.programs.end_step);
    head_.update();
  }
  // Comes behind the others, so that train stays the first program: logs count its operations from 0.
  void begin_step() {
    begin(model_.programs.begin_step);
    s_.read_control();
    const TensorId counted = s_.counted;
    model_.graph.operation("counted.clear", {}, {counted}, [=](auto& device, const Bindings& at) { clear(device, at[counted]); });
    end(model_.programs.begin_step);
  }

  void evaluate() {
    begin(model_.programs.evaluate);
    const Batch batch = s_.read_batch("evaluate.", model_.ports.batch, true, true);
    head_.evaluate("evaluate.", trunk_->forward(batch, "evaluate.", false), batch.targets);
    end(model_.programs.evaluate);
  }

  void step(const std::string& prefix) {
    const std::int64_t ring = s_.options.window;
    s_.options = of_one_token(s_.options);
    begin(model_.programs.step);
    head_.step(prefix, trunk_->step(prefix, ring));
    end(model_.programs.step);
  }

  void derive() {
    begin(model_.programs.derive);
    trunk_->derive();
    for (const Parameter& p : model_.parameters) {
      if (!p.low) continue;
      const TensorId value = p.value, low = p.low;
      model_.graph.operation("derive." + p.name, {value}, {low},
                             [=](auto& device, const Bindings& at) { cast(device, at[value], at[low]); });
    }
    end(model_.programs.derive);
  }

  void compare() {
    std::vector<TensorId>& tensors = model_.compared;
    for (std::size_t i = 0; i < model_.graph.tensors().size(); ++i)
      if (model_.graph.tensors()[i].kind == BufferKind::persistent) tensors.push_back({i});
    std::vector<Share> shares = head_.statistics();
    for (const Parameter& p : model_.parameters) {
      if (p.owner < 0) continue;
      shares.push_back({p.m, p.owner});
      if (!p.low) continue;
      shares.push_back({p.value, p.owner});
      tensors.push_back(p.low);
    }
    begin(model_.programs.compare);
    if (!shares.empty()) end_exchange(s_, begin_broadcast(s_, "owned", shares, Ends::at_once));
    const Shape shape = {static_cast<std::int64_t>(tensors.size())};
    const TensorId sums = model_.graph.transient("checksums", DType::i64, shape),
                   host = model_.ports.checksums = s_.host("checksums.host", DType::i64, shape);
    model_.graph.operation("checksums", tensors, {sums, host}, [=, tensors = tensors](auto& device, const Bindings& at) {
      std::int64_t done = 0;
      in_lots<TensorView>(
          tensors, [&](TensorId id) { return at[id]; },
          [&](const Several<TensorView>& lot) {
            const auto count = static_cast<std::int64_t>(lot.end() - lot.begin());
            checksum(device, {lot, at[sums].rows(done, count)});
            done += count;
          });
      copy(device, at[sums], at[host]);
    });
    end(model_.programs.compare);
  }

  Model model_;
  Assembly s_;
  Head head_;
  std::unique_ptr<Trunk> trunk_;
};

}  // namespace

FirstValue constant(double value) {
  return [=](std::uint64_t, std::uint64_t, std::uint64_t) { return value; };
}

FirstValue normals(double deviation) {
  return [=](std::uint64_t seed, std::uint64_t stream, std::uint64_t i) { return deviation * normal(seed, stream, i); };
}

const Parameter& Model::parameter(const std::string& name) const {
  for (const Parameter& p : parameters) {
    if (p.name == name) return p;
  }
  throw std::out_of_range("no parameter " + name);
}

std::size_t Model::weight_tensors() const {
  const auto trained = [](const Parameter& p) { return p.rule != UpdateRule::none; };
  return static_cast<std::size_t>(std::count_if(parameters.begin(), parameters.end(), trained)) + fixed.size();
}

Model build_training(ArchitecturePtr architecture, const StepOptions& options) {
  return Build(std::move(architecture), options).training();
}
Model build_evaluation(ArchitecturePtr architecture, const StepOptions& options) {
  return Build(std::move(architecture), options).evaluation();
}
Model build_stream(ArchitecturePtr architecture, const StepOptions& options) {
  return Build(std::move(architecture), options).stream();
}

}  // namespace neurogen

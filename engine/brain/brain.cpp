#include "engine/brain/brain.h"

#include "engine/brain/builder.h"
#include "kernels/step_control.h"

namespace neurogen {
namespace {

Brain empty_brain(const Architecture& architecture, const BrainOptions& options) {
  Brain brain;
  brain.architecture = architecture;
  brain.options = options;
  return brain;
}

TensorId host_tensor(Brain& brain, const char* name, DType type, Shape shape) {
  return brain.graph.tensor(name, type, std::move(shape), BufferKind::derived, ArenaKind::host);
}

// A ring: the GPU copies some slots while threads read or write others. The bus stays busy only if several copies are queued, each
// long compared to the time that a thread takes to wake (docs/history.md).
constexpr std::int64_t kStagingSlot = std::int64_t{8} << 20;

void declare_staging(Brain& brain) {
  if (brain.options.threads == 0) brain.staging = host_tensor(brain, "staging", DType::u8, {kStagingSlots, kStagingSlot});
}

void evaluation_program(Brain& brain, Builder& build) {
  brain.graph.begin_program("evaluate");
  Activations a = build.read_batch("evaluate.", true);
  build.forward(a, "evaluate.", false);
  build.decoder_evaluation("evaluate.", a);
}

void declare_stream_memory(Brain& brain) {
  brain.host_token = host_tensor(brain, "token.host", DType::i32, {1, 1});
  brain.host_position = host_tensor(brain, "position.host", DType::i64, {2});
  brain.host_logits = host_tensor(brain, "logits.host", brain.options.real(), {brain.architecture.vocabulary});
}

// Options for one token at a time.
BrainOptions of_one_token(BrainOptions options) {
  options.batch = options.window = 1;
  options.schedule = {true, 1, Bytes{1} << 62};  // one token is small: no tiles
  return options;
}

void stream_program(Brain& brain, Builder& build, const std::string& prefix, std::int64_t ring) {
  brain.graph.begin_program("step");
  build.declare_stream(ring);
  Activations a = build.read_batch(prefix, false);
  build.forward(a, prefix, false);
  build.decoder_stream(prefix, a);
}

}  // namespace

Brain build_training(const Architecture& architecture, const BrainOptions& options) {
  Brain brain = empty_brain(architecture, options);
  brain.host_batch = host_tensor(brain, "batch", DType::i32, {2, options.tokens()});
  brain.host_loss = host_tensor(brain, "metrics.loss", DType::f64, {2});
  brain.host_norm = host_tensor(brain, "metrics.norm", options.real(), {2});
  brain.host_control = host_tensor(brain, "control.host", DType::u8, {sizeof(StepControl)});
  if (options.scaled()) brain.host_outcome = host_tensor(brain, "metrics.control", DType::u8, {sizeof(StepControl)});
  declare_staging(brain);
  if (options.stream) declare_stream_memory(brain);

  Builder build(brain);
  build.declare_parameters(true);
  brain.graph.begin_program("train");
  build.read_control();
  Activations a = build.read_batch("", true);
  build.forward(a, "", true);
  brain.features = a.output[kBroca];
  const TensorId d_broca = build.decoder_training(a);
  const Gradients gradients = build.backward(a, d_broca);
  build.update(gradients);

  evaluation_program(brain, build);
  build.derive();
  if (options.stream) {
    brain.options = of_one_token(options);  // the builder reads these
    stream_program(brain, build, "stream.", options.window);
    brain.options = options;
  }
  return brain;
}

Brain build_evaluation(const Architecture& architecture, const BrainOptions& options) {
  Brain brain = empty_brain(architecture, options);
  brain.host_batch = host_tensor(brain, "batch", DType::i32, {2, options.tokens()});
  brain.host_loss = host_tensor(brain, "metrics.loss", DType::f64, {2});
  declare_staging(brain);
  brain.host_hits = host_tensor(brain, "metrics.hits", DType::f64, {2});
  Builder build(brain);
  build.declare_parameters(false);
  evaluation_program(brain, build);
  build.derive();
  return brain;
}

Brain build_stream(const Architecture& architecture, const BrainOptions& options) {
  Brain brain = empty_brain(architecture, options);
  brain.options = of_one_token(options);
  declare_stream_memory(brain);
  declare_staging(brain);

  Builder build(brain);
  build.declare_parameters(false);
  stream_program(brain, build, "", options.window);
  build.derive();
  return brain;
}

}  // namespace neurogen

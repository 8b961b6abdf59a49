// The engine as plain functions for Python's ctypes (neurogen/_library.py), so that one build serves every Python: pointers and
// numbers of elements for spans, and a status for a Result. The module's classes are in neurogen/_engine.py and _tokenizer.py.
#include <neurogen/engine.h>
#include <neurogen/tokenizer.h>

#include <cmath>

using neurogen::Engine;
using neurogen::EngineOptions;
using neurogen::MemoryPlan;
using neurogen::Sampling;
using neurogen::TextTokenizer;

namespace {

enum Outcome : int { done = 0, failed = 1, refused = 2 };

// What a function's caller reads next, in its thread.
thread_local std::string text, field;  // a failure's sentence and field; a name, decoded text
thread_local std::vector<std::int32_t> ids;

const char* kept(std::string_view value) { return (text = value).c_str(); }

// Hands a value to `use`; keeps a failure's sentence and field.
template <typename Value, typename Use>
int outcome(neurogen::Result<Value> result, Use&& use) {
  if (result.ok()) return use(std::move(result).value()), done;
  text = result.failure().sentence, field = result.failure().field;
  return result.failure().refused ? refused : failed;
}
int outcome(neurogen::Status status) {
  return outcome(std::move(status), [](std::monostate) {});
}

template <typename T>
std::span<T> span(T* data, std::int64_t size) {
  return {data, static_cast<std::size_t>(size)};
}

constexpr std::int64_t kNotSet = INT64_MIN;  // of an optional number
constexpr double kNoNumber = -HUGE_VAL;

// EngineOptions as class NativeOptions of _library.py has them.
struct NativeOptions {
  const char *architecture, *checkpoint, *init;
  std::uint64_t budget;
  std::int64_t overhead, batch, window, accumulate, device, gpu, compute, decoder_storage, optimizer, logits, weights, moments,
      updates, threads, document_end, decoder_tile, steps, seed;
  double learning_rate, synapse_rate, table_rate, decoder_rate;
  std::int64_t warmup;
};

EngineOptions options_of(const NativeOptions& n) {
  EngineOptions o;
  o.architecture = n.architecture, o.checkpoint = n.checkpoint, o.init = n.init, o.budget = n.budget;
  if (n.overhead != kNotSet) o.overhead = static_cast<std::uint64_t>(n.overhead);
  o.batch = n.batch, o.window = n.window, o.accumulate = n.accumulate;
  o.device = static_cast<neurogen::Device>(n.device), o.gpu = n.gpu;
  o.compute = static_cast<neurogen::Compute>(n.compute);
  o.decoder_storage = static_cast<neurogen::DecoderStorage>(n.decoder_storage);
  if (n.optimizer != kNotSet) o.optimizer = static_cast<neurogen::Optimizer>(n.optimizer);
  if (n.logits != kNotSet) o.logits = static_cast<neurogen::LogitsProduct>(n.logits);
  if (n.weights != kNotSet) o.weights = static_cast<neurogen::WeightStorage>(n.weights);
  if (n.moments != kNotSet) o.moments = static_cast<neurogen::Moments>(n.moments);
  if (n.updates != kNotSet) o.updates = static_cast<neurogen::UpdateTime>(n.updates);
  o.threads = n.threads, o.decoder_tile = n.decoder_tile, o.steps = n.steps, o.seed = n.seed;
  if (n.document_end != kNotSet) o.document_end = n.document_end;
  if (n.learning_rate != kNoNumber) o.rates.learning_rate = n.learning_rate;
  if (n.synapse_rate != kNoNumber) o.rates.synapse_rate = n.synapse_rate;
  o.rates.table_rate = n.table_rate, o.rates.decoder_rate = n.decoder_rate, o.rates.warmup = n.warmup;
  return o;
}

}  // namespace

#define PYTHON extern "C" NEUROGEN_API

PYTHON const char* neurogen_text() { return text.c_str(); }
PYTHON const char* neurogen_field() { return field.c_str(); }
PYTHON const char* neurogen_version() { return neurogen::version(); }
PYTHON int neurogen_parse_bytes(const char* size, const char* name, std::uint64_t* bytes) {
  return outcome(neurogen::parse_bytes(size, name), [&](std::uint64_t parsed) { *bytes = parsed; });
}

PYTHON void neurogen_default_options(NativeOptions* n) {
  static const EngineOptions o;
  *n = {o.architecture.c_str(),
        o.checkpoint.c_str(),
        o.init.c_str(),
        o.budget,
        kNotSet,
        o.batch,
        o.window,
        o.accumulate,
        static_cast<std::int64_t>(o.device),
        o.gpu,
        static_cast<std::int64_t>(o.compute),
        static_cast<std::int64_t>(o.decoder_storage),
        kNotSet,
        kNotSet,
        kNotSet,
        kNotSet,
        kNotSet,
        o.threads,
        kNotSet,
        o.decoder_tile,
        o.steps,
        o.seed,
        kNoNumber,
        kNoNumber,
        o.rates.table_rate,
        o.rates.decoder_rate,
        o.rates.warmup};
}
PYTHON void neurogen_default_sampling(Sampling* sampling) { *sampling = {}; }

PYTHON int neurogen_create(Engine** made, const NativeOptions* options) {
  return outcome(Engine::create(options_of(*options)), [&](Engine engine) { *made = new Engine(std::move(engine)); });
}
PYTHON void neurogen_destroy(Engine* engine) { delete engine; }

PYTHON int neurogen_create_plan(MemoryPlan** made, const NativeOptions* options) {
  return outcome(Engine::plan(options_of(*options)), [&](MemoryPlan plan) { *made = new MemoryPlan(std::move(plan)); });
}
PYTHON void neurogen_destroy_plan(MemoryPlan* plan) { delete plan; }
PYTHON const MemoryPlan* neurogen_plan(const Engine* engine) { return &engine->plan(); }
// The fields of a plan in their order, but for its texts.
PYTHON void neurogen_plan_numbers(const MemoryPlan* plan, std::uint64_t* numbers) {
  const MemoryPlan& p = *plan;
  for (const std::uint64_t bytes : {p.device_arena, p.host_arena, p.overhead, p.total, p.budget, p.minimum}) *numbers++ = bytes;
  *numbers++ = static_cast<std::uint64_t>(p.batch);
  *numbers++ = static_cast<std::uint64_t>(p.window);
  *numbers++ = static_cast<std::uint64_t>(p.accumulate);
  *numbers = p.fits;
}
PYTHON const char* neurogen_plan_json(const MemoryPlan* plan) { return plan->json.c_str(); }
PYTHON const char* neurogen_plan_table(const MemoryPlan* plan) { return plan->table.c_str(); }
PYTHON const char* neurogen_plan_refusal(const MemoryPlan* plan) { return plan->refusal.c_str(); }

PYTHON const char* neurogen_device(const Engine* engine) { return kept(engine->device()); }
PYTHON std::int64_t neurogen_vocabulary(const Engine* engine) { return engine->vocabulary(); }
PYTHON std::int64_t neurogen_embedding_width(const Engine* engine) { return engine->embedding_width(); }
PYTHON std::int64_t neurogen_steps(const Engine* engine) { return engine->steps(); }
PYTHON std::int64_t neurogen_allocations(const Engine* engine) {
  return static_cast<std::int64_t>(engine->allocations_since_construction());
}
// A comma behind each.
PYTHON const char* neurogen_modules(const Engine* engine) {
  text.clear();
  for (const std::string_view module : engine->modules()) (text += module) += ',';
  return text.c_str();
}
// A line for each: its name, and the sizes of its shape behind spaces.
PYTHON const char* neurogen_parameters(const Engine* engine) {
  text.clear();
  for (const neurogen::ParameterInfo& parameter : engine->parameters()) {
    text += parameter.name;
    for (const std::int64_t size : parameter.shape) (text += ' ') += std::to_string(size);
    text += '\n';
  }
  return text.c_str();
}

// `numbers`: loss, gradient norm and rate.
PYTHON int neurogen_train(Engine* engine, const std::int32_t* inputs, std::int64_t input_size, const std::int32_t* targets,
                          std::int64_t target_size, double* numbers, int* skipped) {
  return outcome(engine->train_step_batch(span(inputs, input_size), span(targets, target_size)),
                 [&](const neurogen::TrainingStepReport& step) {
                   numbers[0] = step.loss, numbers[1] = step.gradient_norm, numbers[2] = step.learning_rate;
                   *skipped = step.skipped;
                 });
}
PYTHON int neurogen_evaluate(Engine* engine, const std::int32_t* tokens, std::int64_t size, double* loss) {
  return outcome(engine->evaluate(span(tokens, size)), [&](double value) { *loss = value; });
}
PYTHON int neurogen_losses(Engine* engine, const std::int32_t* inputs, std::int64_t input_size, const std::int32_t* targets,
                           std::int64_t target_size, float* out, std::int64_t out_size) {
  return outcome(engine->losses(span(inputs, input_size), span(targets, target_size), span(out, out_size)));
}
PYTHON int neurogen_logits(Engine* engine, const std::int32_t* inputs, std::int64_t input_size, float* out, std::int64_t out_size) {
  return outcome(engine->logits(span(inputs, input_size), span(out, out_size)));
}
PYTHON int neurogen_begin(Engine* engine, const std::int32_t* prompt, std::int64_t size, const Sampling* sampling) {
  return outcome(engine->begin(span(prompt, size), *sampling));
}
// `token`: -1 after the end of the text.
PYTHON int neurogen_next(Engine* engine, std::int32_t* token) {
  return outcome(engine->next(), [&](std::optional<std::int32_t> drawn) { *token = drawn.value_or(-1); });
}
PYTHON int neurogen_read_parameter(const Engine* engine, const char* name, float* out, std::int64_t size) {
  return outcome(engine->read_parameter(name, span(out, size)));
}
PYTHON int neurogen_write_parameter(Engine* engine, const char* name, const float* values, std::int64_t size) {
  return outcome(engine->write_parameter(name, span(values, size)));
}
PYTHON int neurogen_embedding_row(const Engine* engine, std::int64_t id, const float** row) {
  return outcome(engine->embedding_row(id), [&](std::span<const float> values) { *row = values.data(); });
}
PYTHON int neurogen_read_embedding_row(const Engine* engine, std::int64_t id, float* out, std::int64_t size) {
  return outcome(engine->read_embedding_row(id, span(out, size)));
}
PYTHON int neurogen_outputs(const Engine* engine, const char* module, std::int64_t* count) {
  return outcome(engine->outputs(module), [&](std::int64_t outputs) { *count = outputs; });
}
PYTHON int neurogen_read_output(Engine* engine, const char* module, float* out, std::int64_t size) {
  return outcome(engine->read_output(module, span(out, size)));
}
PYTHON int neurogen_save(Engine* engine, const char* path) { return outcome(engine->save(path)); }
PYTHON int neurogen_export(Engine* engine, const char* path) { return outcome(engine->export_weights(path)); }
PYTHON int neurogen_load(Engine* engine, const char* path) { return outcome(engine->load(path)); }

PYTHON int neurogen_create_tokenizer(TextTokenizer** made, const char* path) {
  return outcome(TextTokenizer::create(path), [&](TextTokenizer t) { *made = new TextTokenizer(std::move(t)); });
}
PYTHON void neurogen_destroy_tokenizer(TextTokenizer* tokenizer) { delete tokenizer; }
PYTHON std::int64_t neurogen_tokenizer_vocabulary(const TextTokenizer* tokenizer) { return tokenizer->vocabulary(); }
PYTHON std::int64_t neurogen_line_end(const TextTokenizer* tokenizer) { return tokenizer->line_end(); }
PYTHON std::int64_t neurogen_document_end(const TextTokenizer* tokenizer) { return tokenizer->document_end(); }
PYTHON int neurogen_encode(const TextTokenizer* tokenizer, const char* bytes, std::int64_t size, bool special,
                           const std::int32_t** first, std::int64_t* count) {
  return outcome(tokenizer->encode({bytes, static_cast<std::size_t>(size)}, special), [&](std::vector<std::int32_t> made) {
    ids = std::move(made);
    *first = ids.data(), *count = static_cast<std::int64_t>(ids.size());
  });
}
PYTHON int neurogen_decode(const TextTokenizer* tokenizer, const std::int32_t* tokens, std::int64_t size, const char** bytes,
                           std::int64_t* count) {
  return outcome(tokenizer->decode(span(tokens, size)), [&](std::string made) {
    text = std::move(made);
    *bytes = text.data(), *count = static_cast<std::int64_t>(text.size());
  });
}

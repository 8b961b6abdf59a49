// The engine as plain functions for Python's ctypes (neurogen/_library.py), so that one build serves every Python: pointers and
// numbers of elements for spans, and a status for a Result. The module's classes are in neurogen/_brain.py and _tokenizer.py.
#include <neurogen/engine.h>
#include <neurogen/tokenizer.h>

#include <cmath>
#include <optional>

using neurogen::Engine;
using neurogen::TextTokenizer;

namespace {

enum Outcome : int { done = 0, failed = 1, refused = 2 };

// What a function's caller reads next, in its thread.
thread_local std::string text;  // a failure's sentence, a name, decoded text
thread_local std::vector<std::int32_t> ids;

const char* kept(std::string_view value) { return (text = value).c_str(); }

// Hands a value to `use`; keeps a failure's sentence.
template <typename Value, typename Use>
int outcome(neurogen::Result<Value> result, Use&& use) {
  if (result.ok()) return use(std::move(result).value()), done;
  text = result.failure().sentence;
  return result.failure().refused ? refused : failed;
}
int outcome(neurogen::Status status) {
  return outcome(std::move(status), [](std::monostate) {});
}

template <typename T>
std::span<T> span(T* data, std::int64_t size) {
  return {data, static_cast<std::size_t>(size)};
}

}  // namespace

#define PYTHON extern "C" NEUROGEN_API

PYTHON const char* neurogen_text() { return text.c_str(); }

// `document_end`: null if not set. A NaN for a rate: not set.
PYTHON int neurogen_create(Engine** made, const char* arch, const char* budget, const char* device, const char* batch,
                           std::int64_t window, std::int64_t seed, const char* checkpoint, const char* init, std::int64_t steps,
                           double learning_rate, double synapse_rate, double table_rate, double decoder_rate, std::int64_t warmup,
                           const char* overhead, const char* compute, const char* decoder_storage, const char* optimizer,
                           std::int64_t threads, const std::int64_t* document_end, std::int64_t decoder_tile) {
  neurogen::EngineOptions o;
  o.architecture = arch, o.budget = budget, o.device = device, o.batch = batch, o.window = window;
  o.seed = seed, o.checkpoint = checkpoint, o.init = init, o.steps = steps;
  const auto rate = [](double given) { return std::isnan(given) ? std::nullopt : std::optional(given); };
  o.rates = {rate(learning_rate), rate(synapse_rate), table_rate, decoder_rate, warmup};
  o.overhead = overhead, o.compute = compute, o.decoder_storage = decoder_storage, o.optimizer = optimizer;
  o.threads = threads, o.decoder_tile = decoder_tile;
  if (document_end) o.document_end = *document_end;
  return outcome(Engine::create(o), [&](Engine engine) { *made = new Engine(std::move(engine)); });
}
PYTHON void neurogen_destroy(Engine* engine) { delete engine; }

// The fields of a MemoryPlan in their order.
PYTHON void neurogen_plan(const Engine* engine, std::int64_t* numbers) {
  const neurogen::MemoryPlan& p = engine->plan();
  for (const std::uint64_t bytes : {p.device_arena, p.host_arena, p.overhead, p.total, p.budget, p.minimum})
    *numbers++ = static_cast<std::int64_t>(bytes);
  *numbers++ = p.batch;
  *numbers = p.window;
}
PYTHON const char* neurogen_plan_json(const Engine* engine) { return engine->plan().json.c_str(); }
PYTHON const char* neurogen_plan_table(const Engine* engine) { return engine->plan().table.c_str(); }
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

PYTHON int neurogen_train(Engine* engine, const std::int32_t* inputs, std::int64_t input_size, const std::int32_t* targets,
                          std::int64_t target_size, double* loss) {
  return outcome(engine->train_step_batch(span(inputs, input_size), span(targets, target_size)),
                 [&](const neurogen::TrainingStepReport& step) { *loss = step.loss; });
}
PYTHON int neurogen_evaluate(Engine* engine, const std::int32_t* tokens, std::int64_t size, double* loss) {
  return outcome(engine->evaluate(span(tokens, size)), [&](double value) { *loss = value; });
}
PYTHON int neurogen_generate(Engine* engine, const std::int32_t* prompt, std::int64_t prompt_size, std::int32_t* out,
                             std::int64_t out_size, double temperature, std::int64_t top_k, double top_p, double min_p,
                             double repetition_penalty, std::int64_t seed, std::int64_t* made) {
  const neurogen::Sampling sampling = {temperature, top_k, top_p, min_p, repetition_penalty, seed};
  return outcome(engine->generate(span(prompt, prompt_size), span(out, out_size), sampling),
                 [&](std::size_t count) { *made = static_cast<std::int64_t>(count); });
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
PYTHON int neurogen_load(Engine* engine, const char* path) { return outcome(engine->load(path)); }

PYTHON int neurogen_create_tokenizer(TextTokenizer** made, const char* path) {
  return outcome(TextTokenizer::create(path), [&](TextTokenizer t) { *made = new TextTokenizer(std::move(t)); });
}
PYTHON void neurogen_destroy_tokenizer(TextTokenizer* tokenizer) { delete tokenizer; }
PYTHON std::int64_t neurogen_tokenizer_vocabulary(const TextTokenizer* tokenizer) { return tokenizer->vocabulary(); }
PYTHON std::int64_t neurogen_line_end(const TextTokenizer* tokenizer) { return tokenizer->line_end(); }
PYTHON std::int64_t neurogen_document_end(const TextTokenizer* tokenizer) { return tokenizer->document_end(); }
PYTHON int neurogen_encode(const TextTokenizer* tokenizer, const char* bytes, std::int64_t size, const std::int32_t** first,
                           std::int64_t* count) {
  return outcome(tokenizer->encode({bytes, static_cast<std::size_t>(size)}), [&](std::vector<std::int32_t> made) {
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

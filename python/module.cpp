// The Python module: neurogen/engine.h with NumPy arrays for spans, exceptions for failures, and the interpreter lock released
// while the engine works. Arrays are exchanged through Python's buffer protocol, so that the module depends on no version of NumPy.
#include <neurogen/engine.h>
#include <neurogen/tokenizer.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <mutex>

namespace py = pybind11;

namespace {

using neurogen::Engine;
using Array = py::object;  // a NumPy array

// A failure becomes ValueError (a refusal, nothing was done) or RuntimeError.
template <typename Value>
Value value_of(neurogen::Result<Value> result) {
  if (result.ok()) return std::move(result).value();
  PyErr_SetString(result.failure().refused ? PyExc_ValueError : PyExc_RuntimeError, result.failure().sentence.c_str());
  throw py::error_already_set();
}

// The engine as held by Python. Threads may call it concurrently; calls run one at a time.
struct Held {
  explicit Held(Engine e) : engine(std::move(e)) {}

  // Releases the interpreter lock during the call.
  template <typename Call>
  auto work(Call&& call) {
    const py::gil_scoped_release release;
    const std::lock_guard one_at_a_time(busy);
    return call(engine);
  }

  Engine engine;
  std::mutex busy;
};

// The memory of the caller's array, which must be contiguous and of this type, in any shape.
template <typename T>
std::span<T> span_of(const char* what, const py::buffer_info& info) {
  const char kind = info.format.empty() ? '?' : info.format.back();
  constexpr bool whole = std::is_integral_v<T>;
  const bool right = info.itemsize == sizeof(T) && (whole ? kind == 'i' || kind == 'l' : kind == 'f');
  py::ssize_t step = info.itemsize;
  bool contiguous = true;
  for (py::ssize_t d = info.ndim; d-- > 0; step *= info.shape[static_cast<std::size_t>(d)]) {
    contiguous &= info.shape[static_cast<std::size_t>(d)] == 1 || info.strides[static_cast<std::size_t>(d)] == step;
  }
  if (!right || (info.size > 0 && !contiguous)) {
    throw py::type_error(std::string(what) + " is not a contiguous array of " + (whole ? "int32" : "float32") +
                         ": make one with numpy.ascontiguousarray(" + what + ", numpy." + (whole ? "int32" : "float32") + ")");
  }
  return {static_cast<T*>(info.ptr), static_cast<std::size_t>(info.size)};
}

struct Ids {
  Ids(const char* what, const py::buffer& buffer) : info(buffer.request()), ids(span_of<const std::int32_t>(what, info)) {}
  py::buffer_info info;  // holds the memory
  std::span<const std::int32_t> ids;
};

Array empty(const std::vector<std::int64_t>& shape, const char* type) {
  return py::module_::import("numpy").attr("empty")(py::tuple(py::cast(shape)), type);
}

std::string text_of(const py::object& value) { return py::str(value); }

std::unique_ptr<Held> create(const std::string& arch, const py::object& budget, const std::string& device, const py::object& batch,
                             std::int64_t window, std::int64_t seed, const std::string& checkpoint, const std::string& init,
                             std::int64_t steps, double learning_rate, double table_rate, double decoder_rate, std::int64_t warmup,
                             const py::object& overhead, const std::string& compute, const std::string& decoder_storage,
                             std::int64_t threads, std::optional<std::int64_t> document_end, std::int64_t decoder_tile) {
  neurogen::EngineOptions o;
  o.architecture = arch, o.budget = text_of(budget), o.device = device, o.batch = text_of(batch), o.window = window;
  o.seed = seed, o.checkpoint = checkpoint, o.init = init, o.steps = steps;
  o.rates = {learning_rate, table_rate, decoder_rate, warmup};
  o.overhead = text_of(overhead), o.compute = compute, o.decoder_storage = decoder_storage;
  o.threads = threads, o.document_end = document_end, o.decoder_tile = decoder_tile;
  return std::make_unique<Held>(value_of([&] {
    const py::gil_scoped_release release;
    return Engine::create(o);
  }()));
}

double train_step_batch(Held& held, const py::buffer& input_ids, const py::buffer& target_ids) {
  const Ids inputs("input_ids", input_ids), targets("target_ids", target_ids);
  return value_of(held.work([&](Engine& engine) { return engine.train_step_batch(inputs.ids, targets.ids); }));
}

double evaluate(Held& held, const py::buffer& ids) {
  const Ids text("ids", ids);
  return value_of(held.work([&](Engine& engine) { return engine.evaluate(text.ids); }));
}

Array generate(Held& held, const py::buffer& prompt, std::int64_t max_tokens, double temperature, std::int64_t top_k, double top_p,
               double min_p, double repetition_penalty, std::int64_t seed) {
  if (max_tokens < 0 || max_tokens > 1'000'000'000) {
    throw py::value_error("max_tokens is " + std::to_string(max_tokens) + ": use 0 to 1000000000");
  }
  const Ids before("prompt", prompt);
  const Array said = empty({max_tokens}, "int32");
  const py::buffer_info info = py::buffer(said).request(true);
  const auto out = span_of<std::int32_t>("out", info);
  const neurogen::Sampling sampling = {temperature, top_k, top_p, min_p, repetition_penalty, seed};
  const std::size_t made = value_of(held.work([&](Engine& engine) { return engine.generate(before.ids, out, sampling); }));
  return said[py::slice(0, static_cast<py::ssize_t>(made), 1)];
}

// A row in the engine's memory; keeps the engine alive.
struct Row {
  py::object engine;
  std::span<const float> values;
};

Array embedding_row(const py::object& self, std::int64_t id) {
  const auto row = value_of(self.cast<Held&>().work([&](Engine& engine) { return engine.embedding_row(id); }));
  return py::module_::import("numpy").attr("asarray")(Row{self, row});
}

// Calls read(engine, memory) with the caller's array, or with a new one of this shape if there is none.
template <typename Read>
Array read_into(Held& held, const py::object& out, const std::vector<std::int64_t>& shape, Read&& read) {
  const Array to = out.is_none() ? empty(shape, "float32") : out;
  const py::buffer_info info = py::buffer(to).request(true);
  const auto memory = span_of<float>("out", info);
  value_of(held.work([&](Engine& engine) { return read(engine, memory); }));
  return to;
}

Array read_embedding_row(Held& held, std::int64_t id, const py::object& out) {
  return read_into(held, out, {held.engine.embedding_width()},
                   [&](Engine& engine, std::span<float> memory) { return engine.read_embedding_row(id, memory); });
}

Array output(Held& held, const std::string& module, const py::object& out) {
  const neurogen::MemoryPlan& plan = held.engine.plan();
  return read_into(held, out, {plan.batch, plan.window, value_of(held.engine.outputs(module))},
                   [&](Engine& engine, std::span<float> memory) { return engine.read_output(module, memory); });
}

using neurogen::TextTokenizer;

std::unique_ptr<TextTokenizer> create_tokenizer(const std::string& path) {
  return std::make_unique<TextTokenizer>(value_of(TextTokenizer::create(path)));
}

Array encode(const TextTokenizer& tokenizer, const std::string& text) {
  const std::vector<std::int32_t> ids = value_of([&] {
    const py::gil_scoped_release release;
    return tokenizer.encode(text);
  }());
  const Array out = empty({static_cast<std::int64_t>(ids.size())}, "int32");
  const py::buffer_info info = py::buffer(out).request(true);
  std::copy(ids.begin(), ids.end(), span_of<std::int32_t>("out", info).begin());
  return out;
}

py::str decode(const TextTokenizer& tokenizer, const py::buffer& ids) {
  const Ids wanted("ids", ids);
  const std::string text = value_of(tokenizer.decode(wanted.ids));
  PyObject* const decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "replace");
  if (!decoded) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

}  // namespace

PYBIND11_MODULE(_engine, m) {
  using py::arg;
  const neurogen::EngineOptions o;  // for its defaults
  const neurogen::Sampling s;

  py::class_<neurogen::MemoryPlan>(m, "MemoryPlan", "Memory by purpose: sizes in bytes, exact.")
      .def_readonly("device_arena", &neurogen::MemoryPlan::device_arena, "the brain, in GPU memory or ordinary memory")
      .def_readonly("host_arena", &neurogen::MemoryPlan::host_arena, "batches and results")
      .def_readonly("overhead", &neurogen::MemoryPlan::overhead,
                    "reserved for what no plan can place: libraries, heap, a GPU's context")
      .def_readonly("total", &neurogen::MemoryPlan::total, "sum of the three")
      .def_readonly("budget", &neurogen::MemoryPlan::budget, "limit on the total")
      .def_readonly("minimum", &neurogen::MemoryPlan::minimum, "the smallest budget with which these settings run")
      .def_readonly("batch", &neurogen::MemoryPlan::batch, "sequences per step")
      .def_readonly("window", &neurogen::MemoryPlan::window, "tokens in a sequence")
      .def_readonly("json", &neurogen::MemoryPlan::json, "every buffer, as JSON")
      .def(
          "__str__", [](const neurogen::MemoryPlan& plan) { return plan.table; }, "A table of all buffers.");

  py::class_<Row>(m, "_Row", py::buffer_protocol()).def_buffer([](const Row& row) {
    return py::buffer_info(const_cast<float*>(row.values.data()), sizeof(float), py::format_descriptor<float>::format(), 1,
                           {row.values.size()}, {sizeof(float)}, /*readonly=*/true);
  });

  py::class_<Held>(m, "Engine", R"(A brain in planned memory.

The constructor allocates everything. It raises ValueError, with one sentence, for settings that are invalid or do not fit into the
budget. Ids are contiguous int32 arrays, read in place. An invalid argument raises ValueError or TypeError and changes nothing; a
failure at run time (a full disk, a loss that is not finite) raises RuntimeError. Threads may share an engine: calls run one
at a time, while other threads run Python.)")
      .def(py::init(&create), R"(Plans, allocates and initializes.

arch: "full", "small", "tiny" or an architecture file; "auto": full on a GPU, tiny on a CPU, or that of the weights.
budget: limit on all memory, such as "3200M" or a number of bytes; overhead: the part of it for libraries and heap.
device: "auto", "cpu" or "cuda[:K]". batch, window: sequences per step and tokens in each; batch "auto" takes as many of 32 as fit.
checkpoint: a file, or a directory (its newest), to resume from. init: initial weights, from a safetensors file or a checkpoint.
steps: the run's length; the rates decline after half of it. 0: the checkpoint's, else they never decline.)",
           py::kw_only(), arg("arch") = o.architecture, arg("budget") = o.budget, arg("device") = o.device, arg("batch") = o.batch,
           arg("window") = o.window, arg("seed") = o.seed, arg("checkpoint") = o.checkpoint, arg("init") = o.init,
           arg("steps") = o.steps, arg("learning_rate") = o.rates.learning_rate, arg("table_rate") = o.rates.table,
           arg("decoder_rate") = o.rates.decoder, arg("warmup") = o.rates.warmup, arg("overhead") = o.overhead,
           arg("compute") = o.compute, arg("decoder_storage") = o.decoder_storage, arg("threads") = o.threads,
           arg("document_end") = o.document_end, arg("decoder_tile") = o.decoder_tile)
      .def_property_readonly(
          "plan", [](const Held& held) { return held.engine.plan(); }, "Memory by purpose; print it for the table.")
      .def_property_readonly(
          "device", [](const Held& held) { return std::string(held.engine.device()); }, "\"cpu, 2 threads\", \"NVIDIA H200\"")
      .def_property_readonly(
          "vocabulary", [](const Held& held) { return held.engine.vocabulary(); }, "Ids are below it.")
      .def_property_readonly(
          "embedding_width", [](const Held& held) { return held.engine.embedding_width(); }, "Elements of an embedding_row.")
      .def_property_readonly(
          "modules",
          [](const Held& held) {
            std::vector<std::string> names;
            for (const std::string_view name : held.engine.modules()) names.emplace_back(name);
            return names;
          },
          "The modules whose outputs can be read, in order of computation.")
      .def_property_readonly(
          "steps", [](Held& held) { return held.work([](Engine& engine) { return engine.steps(); }); }, "Number of steps done.")
      .def_property_readonly(
          "allocations_since_construction", [](const Held& held) { return held.engine.allocations_since_construction(); },
          "Number of allocations by the engine's own code since construction; only load and errors allocate.")
      .def("train_step_batch", &train_step_batch, arg("input_ids"), arg("target_ids"), R"(Trains one step on int32 [batch, window].

Targets are the tokens that follow; -1 is not counted. Returns the mean loss in nats per target, of the weights before the step.)")
      .def("evaluate", &evaluate, arg("ids"),
           "Returns a text's mean loss in nats per token; every token but the first is predicted once.")
      .def("generate", &generate, R"(Continues a prompt, int32 [tokens], and returns int32 [generated].

Stops after max_tokens or after document_end. temperature 0 takes the likeliest token; top_k 0, top_p 1, min_p 0 and
repetition_penalty 1 have no effect. Equal weights, prompts and settings give equal tokens.)",
           arg("prompt"), arg("max_tokens") = 100, py::kw_only(), arg("temperature") = s.temperature, arg("top_k") = s.top_k,
           arg("top_p") = s.top_p, arg("min_p") = s.min_p, arg("repetition_penalty") = s.repetition_penalty, arg("seed") = s.seed)
      .def("embedding_row", &embedding_row, arg("id"),
           R"(Returns a read-only view of a token's embedding row, float32; it changes with every step.

Raises ValueError on a GPU, whose memory the host cannot read: see read_embedding_row.)")
      .def("read_embedding_row", &read_embedding_row, arg("id"), arg("out") = py::none(),
           R"(Returns a copy of a token's embedding row, float32 [embedding_width], on a CPU or a GPU.

Writes into `out` if given.)")
      .def("output", &output, arg("module"), arg("out") = py::none(),
           R"(Returns a module's outputs, float32 [batch, window, outputs].

Computed for the latest batch with the current weights. Writes into `out` if given.)")
      .def(
          "save",
          [](Held& held, const std::string& path) { value_of(held.work([&](Engine& engine) { return engine.save(path); })); },
          arg("path"), "Writes a checkpoint atomically: if it fails, an existing file stays.")
      .def(
          "load",
          [](Held& held, const std::string& path) { value_of(held.work([&](Engine& engine) { return engine.load(path); })); },
          arg("path"), "Resumes from a checkpoint of this architecture, or from the newest in a directory.");

  py::class_<TextTokenizer>(m, "Tokenizer",
                            R"(Text to token ids and back with a SentencePiece model: the ids that the program corpus writes.

With a model from corpus train-tokenizer any text round-trips unchanged, and SentencePiece's own encode gives the same ids.)")
      .def(py::init(&create_tokenizer), arg("path"), "Reads a SentencePiece model.")
      .def_property_readonly("vocabulary", &TextTokenizer::vocabulary, "Ids are below it.")
      .def_property_readonly("line_end", &TextTokenizer::line_end, "The id of a line end.")
      .def_property_readonly("document_end", &TextTokenizer::document_end,
                             "The id that ends a document and decodes to no text, for Engine's document_end; -1: none.")
      .def("encode", &encode, arg("text"), "Returns the ids of a text, int32.")
      .def("decode", &decode, arg("ids"), "Returns the text of ids, int32; U+FFFD for bytes that are not UTF-8.");
}

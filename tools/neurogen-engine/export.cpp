// neurogen-engine export: writes trained weights as safetensors, or in other programs' formats.
#include <fmt/format.h>

#include <filesystem>

#include "arena/error.h"
#include "engine/data/tokenizer.h"
#include "engine/files/checkpoint.h"
#include "engine/files/checkpoint_directory.h"
#include "engine/model/family.h"
#include "engine/model/initialize.h"
#include "engine/model/saved_weights.h"
#include "engine/run/foreign_tokenizer.h"
#include "engine/run/peft.h"
#include "engine/run/settings.h"
#include "tools/common/output.h"
#include "tools/common/outputs.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/text.h"
#include "tools/neurogen-engine/trained.h"

namespace neurogen {
namespace {

struct ExportSettings {
  WeightSettings weights;
  std::string safetensors, folder, gguf, type = "f32", tokenizer, adapter;
  bool merge = false;
};

Encoding type_of(const ExportSettings& s) {
  for (const Encoding type : {Encoding::f32, Encoding::f16, Encoding::bf16, Encoding::q8_0}) {
    std::string name = name_of(type);
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    if (name != s.type) continue;
    if (type == Encoding::q8_0 && !s.folder.empty())
      throw Error("--type q8_0 is for --gguf: use f32, f16 or bf16 for --huggingface");
    return type;
  }
  throw Error(fmt::format("--type is \"{}\": use f32, f16, bf16 or q8_0", s.type));
}

// Writes a base with the adapters of a checkpoint added to it, for this program. Returns the number of tensors.
std::size_t write_merged(const ExportSettings& s, const std::string& file) {
  Settings settings;
  settings.device = Device::cpu;
  settings.batch = settings.window = 1;
  Weights weights(s.weights, settings, s.tokenizer);
  const Resolved r = resolve(settings, false);
  Session session(planned(build_evaluation(r.architecture, r.options), r.budget), r.place);
  load(weights, session);
  export_parameters(session.model, session.program, file, weights.tokenizer());
  return session.model.parameters.size() - session.model.weight_tensors();
}

// The same in a file beside an output, which is made from it; removed at the end.
struct MergedFile {
  MergedFile(const ExportSettings& s, std::string output) {
    while (output.ends_with('/')) output.pop_back();
    path = output + ".merged.safetensors";
    write_merged(s, path);
  }
  MergedFile(const MergedFile&) = delete;
  ~MergedFile() { std::filesystem::remove(path, ignored); }
  std::string path;
  std::error_code ignored;
};

int write_own(const ExportSettings& s, const Checkpoint& file) {
  const std::string& out = s.safetensors;
  check_outputs({{"", file.path()}, {"", s.weights.init}}, {{"--safetensors", out}},
                std::filesystem::path(file.path()).parent_path());
  if (s.merge) {
    print_out("{} tensors written to {}, adapters merged\n", write_merged(s, out), out);
    return 0;
  }
  const Manifest& m = file.manifest();
  std::vector<TensorToWrite> tensors;
  std::vector<std::string> names;
  for (const FileTensor& t : std::span(file.tensors()).first(m.weights)) {
    tensors.push_back({t.name, t.dtype, t.shape, t.data.data()});
    names.push_back(t.name);
  }
  file.verify(names);
  std::map<std::string, std::string> metadata = {{"architecture", m.architecture},
                                                 {"document_end", std::to_string(m.options.document_end)}};
  if (m.tokenizer) metadata["tokenizer"] = fmt::format("{:016x}", m.tokenizer);
  if (!m.tokenizer_model.empty()) {
    tensors.push_back(
        {kTokenizerTensor, DType::u8, {static_cast<std::int64_t>(m.tokenizer_model.size())}, m.tokenizer_model.data()});
  }
  write_safetensors(out, metadata, tensors);
  print_out("{} tensors written to {}\n", m.weights, out);
  return 0;
}

// Weights of any kind, and the architecture and the tokenizer that they carry.
struct Source {
  Source(const std::string& path, const std::string& named) : file(path) {
    Settings adopted;
    file.adopt(adopted);
    if (adopted.architecture_json.empty()) throw Error(path + " does not name the architecture of its weights: export it again");
    architecture = parse_architecture(adopted.architecture_json, path + ": its architecture");
    tokenizer = named.empty() ? file.tokenizer() : named_tokenizer(named);
    if (tokenizer) check_tokenizer(*tokenizer, architecture->vocabulary());
    if (!file.pretrained()) saved.emplace(*architecture, path);
  }
  const WeightSource& weights() const {
    if (saved) return *saved;
    return *file.pretrained();
  }

  WeightFile file;
  std::optional<SavedWeights> saved;  // of our own files
  ArchitecturePtr architecture;
  std::unique_ptr<Tokenizer> tokenizer;
};

int export_weights(const ExportSettings& s) {
  require_weights(s.weights);
  if (s.safetensors.empty() + s.folder.empty() + s.gguf.empty() + s.adapter.empty() != 3) {
    throw Error(
        "nothing to write, or too much: name it with one of --safetensors FILE, --huggingface DIR, --gguf FILE and "
        "--adapter DIR");
  }
  const Encoding type = type_of(s);
  check_export_name("--safetensors", s.safetensors);
  std::optional<Checkpoint> file;
  if (!s.weights.checkpoint.empty()) file.emplace(checkpoint_file(s.weights.checkpoint));
  const bool adapted = file && file->manifest().adapters.rank > 0;
  if (!adapted && (s.merge || !s.adapter.empty())) {
    throw Error((file ? file->path() : s.weights.init) +
                " holds no adapters: name a checkpoint that does, or leave out --merge and --adapter");
  }
  if (!s.adapter.empty()) {
    export_peft(*file, s.adapter);
    print_out("the adapters are in {}\n", s.adapter);
    return 0;
  }
  if (adapted && !s.merge)
    throw Error(file->path() + " holds adapters: add --merge to write them with their base, or write them alone by --adapter DIR");
  if (!s.safetensors.empty()) {
    if (!file) throw Error("--safetensors is written from a checkpoint: name it with --checkpoint");
    return write_own(s, *file);
  }
  const bool folder = !s.folder.empty();
  const std::string from = file ? file->path() : s.weights.init;
  check_outputs({{"", from}, {"", s.weights.init}, {"", s.tokenizer}}, {{"--huggingface", s.folder}, {"--gguf", s.gguf}},
                file ? std::filesystem::path(from).parent_path() : "");
  std::optional<MergedFile> merged;
  if (adapted) merged.emplace(s, folder ? s.folder : s.gguf);
  const Source source(merged ? merged->path : from, s.tokenizer);
  const Interchange& interchange = interchange_of(*source.architecture);
  const ForeignTokenizer tokenizer = foreign_tokenizer(source.tokenizer.get());
  const auto write = folder ? interchange.write_folder : interchange.write_gguf;
  const std::string& out = folder ? s.folder : s.gguf;
  write(*source.architecture, source.weights(), type, tokenizer, out);
  const bool with = folder ? !tokenizer.files.empty() : !tokenizer.metadata.empty();
  print_out("{} written to {}, {}\n", source.architecture->name(), out, with ? "with its tokenizer" : "without a tokenizer");
  return 0;
}

}  // namespace

void add_export(CLI::App& app, int& status) {
  auto s = std::make_shared<ExportSettings>();
  add_weight_settings(app, s->weights);
  app.add_option("--tokenizer", s->tokenizer, "the tokenizer to write with them (default: the one in the file of weights)");
  app.add_option("--safetensors", s->safetensors, "file to write for this program: parameters, wiring and tokenizer");
  app.add_option("--huggingface", s->folder, "folder to write for Hugging Face's transformers");
  app.add_option("--gguf", s->gguf, "file to write for llama.cpp");
  app.add_option("--adapter", s->adapter, "folder to write: a checkpoint's adapters, as PEFT reads them");
  app.add_flag("--merge", s->merge, "of a checkpoint of adapters: add them to the weights of their base");
  app.add_option("--type", s->type, "of the matrices in --huggingface and --gguf")
      ->type_name("f32|f16|bf16|q8_0")
      ->capture_default_str();
  app.callback([s, &status] { status = export_weights(*s); });
}

}  // namespace neurogen

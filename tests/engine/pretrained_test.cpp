// Small models of random weights that transformers and gguf (PyPI) wrote, by tests/pretrained/make_golden.py.
#include "engine/model/pretrained.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/files/huggingface_folder.h"
#include "engine/model/family.h"
#include "engine/model/initialize.h"
#include "engine/model/saved_weights.h"
#include "engine/run/foreign_tokenizer.h"
#include "engine/run/session.h"
#include "engine/run/stream.h"
#include "engine/run/weights.h"
#include "tests/engine/laws.h"
#include "tests/expect_error.h"
#include "tests/folders.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

const std::vector<string> kModels = {"gpt2", "llama", "qwen2"};

string golden(const string& name) { return source_folder() + "/tests/pretrained/" + name; }

std::unique_ptr<Session> session_of(ArchitecturePtr architecture) {
  StepOptions options;
  options.window = 12;
  return std::make_unique<Session>(planned(build_stream(std::move(architecture), options), kPlenty));
}

std::unique_ptr<Session> loaded(const string& path) {
  auto session = session_of(open_pretrained(path)->architecture());
  initialize_from(session->model, session->program, path);
  return session;
}

std::vector<std::vector<float>> parameters(const Session& session) {
  std::vector<std::vector<float>> all;
  for (const Parameter& p : session.model.parameters) {
    const TensorView view = session.program.view(p.value);
    all.emplace_back(view.as<float>(), view.as<float>() + view.elements());
  }
  return all;
}

// The largest difference from the logits that transformers computes.
double difference(const string& path, const string& logits) {
  const auto session = loaded(path);
  const Safetensors expected(golden(logits + ".logits.safetensors"));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(expected.at("tokens").elements()));
  expected.read_as_int32("tokens", tokens);
  Stream stream(session->model, session->program);
  double worst = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const TensorView row = stream.step(tokens[t]);
    for (std::int64_t v = 0; v < row.elements(); ++v) {
      const double logit = expected.at("logits").real(static_cast<std::int64_t>(t) * row.elements() + v);
      worst = std::max(worst, std::abs(row.as<float>()[v] - logit));
    }
  }
  return worst;
}

// A copy of a golden folder, to be changed.
class Copy {
 public:
  explicit Copy(const string& name) : folder_(directory_.path(name)) {
    std::filesystem::copy(golden(name), folder_);
    config = json::parse(read_file(folder_ + "/config.json"));
  }
  const string& folder() const { return folder_; }
  string file(const string& name) const { return folder_ + "/" + name; }
  void write(const string& name, const string& contents) const { std::ofstream(file(name), std::ios::binary) << contents; }
  void save_config() const { write("config.json", config.dump()); }

  struct Tensor {
    string name;
    DType dtype;
    Shape shape;
    string data;
  };
  std::vector<Tensor> tensors() const {
    std::vector<Tensor> all;
    const Safetensors from(file("model.safetensors"));
    for (const FileTensor& t : from.tensors())
      all.push_back({t.name, t.dtype, t.shape, {reinterpret_cast<const char*>(t.data.data()), t.data.size()}});
    return all;
  }
  void save(const std::vector<Tensor>& tensors, const string& name = "model.safetensors") const {
    std::vector<TensorToWrite> list;
    for (const Tensor& t : tensors) list.push_back({t.name, t.dtype, t.shape, t.data.data()});
    write_safetensors(file(name), {{"format", "pt"}}, list);
  }
  static Tensor& named(std::vector<Tensor>& tensors, const string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& t) { return t.name == name; });
  }

  json config;

 private:
  TemporaryDirectory directory_;
  string folder_;
};

TEST(Pretrained, FoldersGiveTransformersLogits) {
  for (const string& name : kModels) EXPECT_LT(difference(golden(name), name), 2e-5) << name;
}

TEST(Pretrained, QuantisedRowsInLlamaCppsOrderGiveTransformersLogits) {
  EXPECT_LT(difference(golden("llama.gguf"), "llama-gguf"), 2e-5);
  const Gguf file(golden("llama.gguf"));
  const auto encoding = [&](const char* name) { return file.find(name)->encoding; };
  EXPECT_EQ(encoding("blk.0.attn_q.weight"), Encoding::q4_1);
  EXPECT_EQ(encoding("blk.1.attn_k.weight"), Encoding::q4_0);
  EXPECT_EQ(encoding("blk.2.ffn_up.weight"), Encoding::q8_0);
}

TEST(Pretrained, TheArchitectureComesAlong) {
  const auto of = [](const string& name) { return json::parse(open_pretrained(golden(name))->architecture()->json()); };
  const json gpt2 = of("gpt2"), llama = of("llama"), qwen2 = of("qwen2"), gguf = of("llama.gguf");
  EXPECT_EQ(gpt2["name"], "gpt2");
  EXPECT_EQ(gguf["name"], "a llama of random weights");
  EXPECT_EQ(gpt2["context"], 16);
  EXPECT_EQ(gpt2["tied"], true);
  EXPECT_EQ(llama["tied"], false);
  EXPECT_EQ(qwen2["tied"], true);
  EXPECT_EQ(llama["rotary_theta"], 300.0);
  EXPECT_EQ(llama["norm_eps"], 1e-4);
  EXPECT_EQ(qwen2["qkv_bias"], true);
  EXPECT_EQ(qwen2["bias"], false);
  for (const auto& [key, value] : llama.items()) EXPECT_EQ(gguf[key] == value, key != "name") << key;
  EXPECT_EQ(json::parse(read_architecture(golden("qwen2/config.json"))->json())["width"], 16);
}

// What stands in config.json decides, or it is refused by its name.
TEST(Pretrained, RefusesWhatWouldComputeSomethingElse) {
  const auto refuses = [](const string& name, const string& key, const json& value, const string& sentence) {
    Copy copy(name);
    copy.config[key] = value;
    copy.save_config();
    EXPECT_ERROR(open_pretrained(copy.folder()), copy.file("config.json") + ": " + sentence);
  };
  refuses("llama", "model_type", "mistral", R"(model_type is "mistral": only "gpt2", "llama" or "qwen2" is supported)");
  refuses("llama", "model_type", nullptr, "model_type is null: only");
  refuses("llama", "hidden_act", "gelu", R"(hidden_act is "gelu": only "silu" is supported)");
  refuses("llama", "head_dim", 16, "head_dim is 16: only hidden_size / num_attention_heads is supported");
  refuses("llama", "rope_scaling", {{"factor", 2}, {"type", "linear"}}, "rope_scaling.type is \"linear\": only");
  refuses("llama", "rope_scaling", {{"factor", 2}, {"type", "default"}}, "rope_scaling.factor is 2: only");
  refuses("llama", "rope_scaling", {{"type", "linear"}}, R"(rope_scaling.type is "linear": only "default" is supported)");
  refuses("llama", "rope_parameters", {{"rope_type", "yarn"}}, R"(rope_parameters.rope_type is "yarn": only)");
  refuses("llama", "rope_parameters", {{"partial_rotary_factor", 0.5}}, "rope_parameters.partial_rotary_factor is 0.5: only 1");
  refuses("llama", "rope_parameters", "x", "rope_parameters is \"x\": only an object");
  refuses("llama", "rope_theta", 1e6, "rope_parameters.rope_theta is 300.0: only rope_theta's 1000000");
  refuses("llama", "rope_theta", "much", "rope_theta is \"much\": only a number");
  refuses("llama", "sliding_window", 64, "sliding_window is 64: only null is supported");
  refuses("llama", "mlp_bias", true, "mlp_bias is true: only attention_bias's false");
  refuses("llama", "rope_interleaved", true, "rope_interleaved is true: only false");
  refuses("llama", "layer_types", {"full_attention", "sliding_attention"}, "layer_types is [");
  refuses("llama", "quantization_config", {{"bits", 4}}, "quantization_config is {");
  refuses("llama", "vocab_size", -1, "vocab_size is -1: only a whole number above 0");
  refuses("llama", "vocab_size", nullptr, "vocab_size is missing: use a complete config.json");
  refuses("llama", "num_key_value_heads", 3, "key_value_heads is 3: use a divisor of heads (4)");
  refuses("llama", "tie_word_embeddings", 3, "tie_word_embeddings is 3: only true or false");
  refuses("llama", "rms_norm_eps", 7, "norm_eps is 7.0: use a number from 1e-12 to 1");
  refuses("qwen2", "use_sliding_window", true, "use_sliding_window is true: only false");
  refuses("qwen2", "num_key_value_heads", nullptr, "num_key_value_heads is missing");
  refuses("gpt2", "activation_function", "relu", R"(activation_function is "relu": only "gelu_new")");
  refuses("gpt2", "scale_attn_weights", false, "scale_attn_weights is false: only true");
  refuses("gpt2", "scale_attn_by_inverse_layer_idx", true, "scale_attn_by_inverse_layer_idx is true: only false");
  refuses("gpt2", "add_cross_attention", true, "add_cross_attention is true: only false");
  const Copy copy("gpt2");
  copy.write("config.json", "[1]");
  EXPECT_ERROR(open_pretrained(copy.folder()), "it is not a JSON object");
  copy.write("config.json", "{");
  EXPECT_ERROR(open_pretrained(copy.folder()), "it is not a JSON object");
  copy.write("config.json", string(40, '['));
  EXPECT_ERROR(open_pretrained(copy.folder()), "nested too deeply");
  copy.write("config.json", string((1 << 20) + 1, ' '));
  EXPECT_ERROR(open_pretrained(copy.folder()), "it is larger than 1 MiB");
}

TEST(Pretrained, RefusesOtherTensors) {
  const auto refuses = [](const string& name, const auto& change, const string& sentence) {
    Copy copy(name);
    auto tensors = copy.tensors();
    change(tensors);
    copy.save(tensors);
    EXPECT_ERROR(open_pretrained(copy.folder()), copy.folder() + sentence);
  };
  using Tensors = std::vector<Copy::Tensor>;
  refuses(
      "llama",
      [](Tensors& t) {
        t.push_back({"model.layers.0.self_attn.q_norm.weight", DType::f32, {1}, string(4, 0)});
      },
      ": a llama has no layers.0.self_attn.q_norm.weight: it may change what the model computes");
  refuses(
      "llama",
      [](Tensors& t) {
        t.push_back({"model.norm.bias", DType::i32, {1}, string(4, 0)});
      },
      ": norm.bias is i32: only f32, f16 and bf16 are read");
  refuses(
      "llama",
      [](Tensors& t) {
        t.push_back({"norm.weight", DType::f32, {32}, string(128, 0)});
      },
      " has norm.weight twice: the folder is damaged");
  refuses(
      "llama", [](Tensors& t) { Copy::named(t, "lm_head.weight").name = "head.weight"; }, ": lm_head.weight is missing");
  refuses(
      "gpt2",
      [](Tensors& t) {
        Copy::named(t, "transformer.h.1.mlp.c_fc.weight").shape = {64, 16};
      },
      ": h.1.mlp.c_fc.weight has shape [64, 16], its architecture's is [16, 64]: the file is damaged");
  refuses(
      "qwen2", [](Tensors& t) { std::erase_if(t, [](auto& x) { return x.name.ends_with("k_proj.bias"); }); },
      ": layers.0.self_attn.k_proj.bias is missing: use a file with all of the model's weights");
}

TEST(Pretrained, RefusesNumbersThatAreNotFinite) {
  Copy copy("llama");
  auto tensors = copy.tensors();
  string& data = Copy::named(tensors, "model.layers.1.mlp.down_proj.weight").data;
  data.replace(data.size() - 2, 2, "\x00\x7C", 2);  // infinity
  copy.save(tensors);
  EXPECT_ERROR(loaded(copy.folder()), copy.folder() + ": layers.1.down.weight holds values that are not finite");
}

TEST(Pretrained, NamesMayLackThePrefixAndBuffersOfOldVersionsAreIgnored) {
  for (const string& name : kModels) {
    Copy copy(name);
    auto tensors = copy.tensors();
    for (Copy::Tensor& t : tensors)
      for (const string prefix : {"transformer.", "model."})
        if (t.name.starts_with(prefix)) t.name = t.name.substr(prefix.size());
    if (name == "gpt2") tensors.push_back({"h.0.attn.bias", DType::u8, {1, 1, 16, 16}, string(256, 1)});
    else tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::f32, {4}, string(16, 0)});
    copy.save(tensors);
    EXPECT_LT(difference(copy.folder(), name), 2e-5) << name;
  }
}

TEST(Pretrained, AHeadThatEqualsTheEmbeddingIsTied) {
  for (const bool same : {true, false}) {
    Copy copy("gpt2");
    auto tensors = copy.tensors();
    Copy::Tensor head = Copy::named(tensors, "transformer.wte.weight");
    head.name = "lm_head.weight";
    if (!same) head.data[0] = static_cast<char>(head.data[0] ^ 1);
    tensors.push_back(head);
    copy.save(tensors);
    EXPECT_EQ(open_pretrained(copy.folder())->architecture()->tied(), same);
    EXPECT_LT(difference(copy.folder(), "gpt2"), 1e-3);
  }
}

TEST(Pretrained, ShardsAreReadByTheirIndex) {
  Copy copy("llama");
  const auto tensors = copy.tensors();
  const auto middle = tensors.begin() + 7;
  copy.save({tensors.begin(), middle}, "a.safetensors");
  copy.save({middle, tensors.end()}, "b.safetensors");
  EXPECT_ERROR(open_pretrained(golden("")), "has no config.json");
  std::filesystem::remove(copy.file("model.safetensors"));
  EXPECT_ERROR(open_pretrained(copy.folder()), copy.folder() + " has no model.safetensors: save the model again");
  json index;
  for (std::size_t i = 0; i < tensors.size(); ++i) index["weight_map"][tensors[i].name] = i < 7 ? "a.safetensors" : "b.safetensors";
  const auto save = [&] { copy.write("model.safetensors.index.json", index.dump()); };
  save();
  EXPECT_LT(difference(copy.folder(), "llama"), 2e-5);
  const string first = tensors[0].name;
  for (const char* elsewhere : {"../a.safetensors", "/a.safetensors", "a.bin"}) {
    index["weight_map"][first] = elsewhere;
    save();
    EXPECT_ERROR(open_pretrained(copy.folder()), first + " is in \"" + elsewhere + "\", not in a safetensors file beside it");
  }
  index["weight_map"][first] = "c.safetensors";
  save();
  EXPECT_ERROR(open_pretrained(copy.folder()), "a.safetensors holds " + first + ", which model.safetensors.index.json says");
  index["weight_map"].erase(first);
  save();
  EXPECT_ERROR(open_pretrained(copy.folder()), "a.safetensors holds " + first);
  index["weight_map"][first] = "a.safetensors";
  index["weight_map"]["extra"] = "a.safetensors";
  save();
  EXPECT_ERROR(open_pretrained(copy.folder()), "a.safetensors has no extra, which model.safetensors.index.json says it holds");
  copy.write("model.safetensors.index.json", "{}");
  EXPECT_ERROR(open_pretrained(copy.folder()), "index.json is damaged: it has no weight_map");
  copy.save(tensors);
  EXPECT_ERROR(open_pretrained(copy.folder()), "has model.safetensors and model.safetensors.index.json: remove");
}

TEST(Pretrained, GgufRefusesOtherModels) {
  const TemporaryDirectory directory;
  const Gguf good(golden("llama.gguf"));
  const auto refuses = [&](const string& key, GgufValue value, const string& sentence) {
    GgufMetadata metadata = {{"general.architecture", string("llama")},        {"llama.embedding_length", std::uint32_t{32}},
                             {"llama.block_count", std::uint32_t{0}},          {"llama.attention.head_count", std::uint32_t{4}},
                             {"llama.feed_forward_length", std::uint32_t{32}}, {"llama.context_length", std::uint32_t{32}},
                             {"llama.attention.layer_norm_rms_epsilon", 1e-5f}};
    std::erase_if(metadata, [&](const auto& entry) { return entry.first == key; });
    metadata.emplace_back(key, std::move(value));
    const auto zeros = [](std::int64_t, std::span<float> to) { std::fill(to.begin(), to.end(), 0.f); };
    const std::vector<GgufTensor> tensors = {{"token_embd.weight", Encoding::f32, {8, 32}, zeros}};
    const string path = directory.path("x.gguf");
    write_gguf(path, metadata, tensors);
    EXPECT_ERROR(open_pretrained(path), path + ": " + sentence);
  };
  refuses("general.architecture", string("mamba"), "general.architecture is mamba: only gpt2, llama or qwen2 is supported");
  refuses("general.type", string("adapter"), "general.type is adapter: only model is supported");
  refuses("llama.expert_count", std::uint32_t{8}, "llama.expert_count is not supported: it may change what the model computes");
  refuses("llama.rope.scaling.type", string("yarn"), "llama.rope.scaling.type is not supported");
  refuses("llama.rope.dimension_count", std::uint32_t{4}, "llama.rope.dimension_count is 4: only 8 is supported");
  refuses("llama.vocab_size", std::uint32_t{9}, "llama.vocab_size is 9: only 8 is supported");
  refuses("llama.block_count", std::uint32_t{0}, "layers is 0: use a whole number from 1 to 1000");
  refuses("llama.block_count", std::uint32_t{2}, "blk.0.attn_norm.weight is missing");
  refuses("llama.attention.head_count", std::uint32_t{0}, "layers is 0");
}

// Out and in again: nothing changes but by a type's rounding.
TEST(Pretrained, WhatIsWrittenIsReadAgain) {
  const TemporaryDirectory directory;
  const auto write = [&](const string& from, const string& to, Encoding type) {
    const auto weights = open_pretrained(from);
    const Interchange& interchange = interchange_of(*weights->architecture());
    const bool gguf = to.ends_with(".gguf");
    (gguf ? interchange.write_gguf : interchange.write_folder)(*weights->architecture(), *weights, type, {}, directory.path(to));
    return directory.path(to);
  };
  const auto parameters = [](const string& path) { return neurogen::parameters(*loaded(path)); };
  for (const string& name : kModels) {
    const auto original = parameters(golden(name));
    for (const Encoding type : {Encoding::f32, Encoding::f16}) {  // the golden weights are f16
      const string suffix = name + name_of(type);
      EXPECT_EQ(parameters(write(golden(name), suffix, type)), original) << suffix;
      const string gguf = write(golden(name), suffix + ".gguf", type);
      EXPECT_EQ(parameters(gguf), original) << suffix;
      EXPECT_EQ(read_file(write(gguf, suffix + "-2.gguf", type)).size(), read_file(gguf).size());
      EXPECT_EQ(parameters(write(gguf, suffix + "-2", type)), original) << suffix;
    }
    if (name != "llama") continue;
    const auto rounded = parameters(write(golden(name), name + "-q.gguf", Encoding::q8_0));
    double worst = 0;
    for (std::size_t p = 0; p < original.size(); ++p)
      for (std::size_t i = 0; i < original[p].size(); ++i)
        worst = std::max(worst, static_cast<double>(std::abs(rounded[p][i] - original[p][i])));
    EXPECT_GT(worst, 1e-4);
    EXPECT_LT(worst, 1.0 / 127);  // the largest weight is below 2: half a step is below 1 / 127
  }
  EXPECT_ERROR(write(golden("gpt2"), "gpt2-q.gguf", Encoding::q8_0),
               "token_embd.weight has rows of 16 numbers, which Q8_0 has not");
  EXPECT_ERROR(write(golden("gpt2"), "gpt2F32", Encoding::f32), "gpt2F32 exists and is not an empty directory");
  EXPECT_EQ(directory.files(), 3 * 8 + 1u);
}

TEST(Pretrained, ArchitecturesThatOtherProgramsLackAreNotWritten) {
  const TemporaryDirectory directory;
  const auto refuses = [&](const string& key, const json& value, const string& sentence, const string& from = "llama") {
    json changed = json::parse(open_pretrained(golden(from))->architecture()->json());
    changed[key] = value;
    const ArchitecturePtr architecture = parse_architecture(changed.dump(), "x");
    const auto weights = open_pretrained(golden(from));
    const Interchange& interchange = interchange_of(*architecture);
    for (const auto write : {interchange.write_folder, interchange.write_gguf})
      EXPECT_ERROR(write(*architecture, *weights, Encoding::f32, {}, directory.path("x")), sentence);
    EXPECT_EQ(directory.files(), 0u);
  };
  refuses("activation", "relu2", "llama has the activation relu2, which Hugging Face's and llama.cpp's models have not");
  refuses("qk_norm", true, "llama has qk_norm");
  refuses("embedding_norm", true, "llama has embedding_norm");
  refuses("softcap", 30, "llama has a softcap of 30");
  refuses("bias", true, "llama has bias without qkv_bias");
  refuses("positions", "learned", "llama has norms of root mean squares with learned positions");
  refuses("activation", "gelu_tanh", "llama has norms of root mean squares with gelu_tanh");
  refuses("norm", "layer", "llama has layer norms with rotary positions");
  refuses("bias", false, "gpt2 has layer norms without biases", "gpt2");
  refuses("activation", "silu_gated", "gpt2 has layer norms with silu_gated", "gpt2");
  refuses("key_value_heads", 1, "gpt2 has layer norms with fewer heads of keys", "gpt2");
  EXPECT_ERROR(interchange_of(*read_architecture("tiny")), "tiny is a brain, which Hugging Face and llama.cpp do not know");
}

TEST(Pretrained, SettingsComeFromTheWeights) {
  Settings settings;
  settings.device = Device::cpu;
  const WeightFile llama(golden("llama"));
  llama.adopt(settings);
  EXPECT_EQ(settings.saved_optimizer, Optimizer::adamw);  // its head is not tied: Muon would be the default
  const Resolved resolved = resolve(settings, true);
  EXPECT_EQ(resolved.architecture->name(), "llama");
  llama.check(*resolved.architecture);
  json other = json::parse(resolved.architecture->json());
  other["rotary_theta"] = 10000;
  EXPECT_ERROR(llama.check(*parse_architecture(other.dump(), "x")),
               "llama holds the model llama with rotary_theta 300.0, requested is llama with 10000.0: use the architecture");
  WeightFile(golden("gpt2")).adopt(settings);
  EXPECT_ERROR(resolve(settings, true), "window is 256: gpt2 knows 16 positions");
}

// A file that is gone cannot be opened again.
TEST(Pretrained, WeightsAreOpenedOnce) {
  const TemporaryDirectory directory;
  directory.file("tokenizer.json", json::parse(read_file(source_folder() + "/tests/golden/byte-level.json"))["tokenizer"].dump());
  const auto tokenizer = read_tokenizer(directory.path("tokenizer.json"));
  json wide = json::parse(open_pretrained(golden("llama"))->architecture()->json());
  wide["vocabulary"] = tokenizer->vocabulary();
  const auto first = session_of(parse_architecture(wide.dump(), "wide"));
  initialize(first->model, first->program, 1);
  export_parameters(first->model, first->program, directory.path("ours.safetensors"), tokenizer.get());
  const Architecture& architecture = *first->model.architecture;
  const SavedWeights weights(architecture, directory.path("ours.safetensors"));
  const Interchange& interchange = interchange_of(architecture);
  const ForeignTokenizer theirs = foreign_tokenizer(tokenizer.get());
  interchange.write_gguf(architecture, weights, Encoding::f32, theirs, directory.path("theirs.gguf"));
  interchange.write_folder(architecture, weights, Encoding::f32, theirs, directory.path("theirs"));
  for (const string name : {"ours.safetensors", "theirs.gguf", "theirs"}) {
    const WeightFile file(directory.path(name));
    for (const char* part : {"", "/config.json", "/model.safetensors"})
      if (std::filesystem::is_regular_file(directory.path(name) + part)) std::filesystem::remove(directory.path(name) + part);
    Settings settings;
    settings.device = Device::cpu;
    file.adopt(settings);
    settings.window = 12;
    const Resolved resolved = resolve(settings, true);
    file.check(*resolved.architecture);
    const auto carried = file.tokenizer();
    ASSERT_TRUE(carried) << name;
    EXPECT_EQ(carried->vocabulary(), tokenizer->vocabulary()) << name;
    const auto second = session_of(resolved.architecture);
    file.load(second->model, second->program);
    EXPECT_EQ(parameters(*second), parameters(*first)) << name;
  }
}

// Flips a bit in bytes that are not weights: it is opened, or refused with a sentence.
TEST(Pretrained, SurvivesFlippedBits) {
  const TemporaryDirectory directory;
  const auto attempt = [](const string& path, const string& folder) {
    try {
      const auto file = open_pretrained(path);
      std::vector<float> some(3);
      file->read("embedding.weight", 2, some);
    } catch (const Error& error) {
      const string sentence = error.what();
      ASSERT_TRUE(sentence.starts_with(folder)) << sentence;
      ASSERT_EQ(sentence.find('\n'), string::npos);
    }
  };
  const Gguf whole(golden("llama.gguf"));
  const auto flip = [&](string bytes, std::size_t end, const auto& body) {
    for (std::size_t at = 0; at < end; at += 3) {
      const char good = bytes[at];
      bytes[at] = static_cast<char>(good ^ 1 << at % 8);
      body(bytes);
      bytes[at] = good;
    }
  };
  const string gguf = read_file(golden("llama.gguf"));
  std::size_t weights = gguf.size();
  for (const EncodedTensor& t : whole.tensors()) weights -= t.data.size();
  flip(gguf, weights, [&](const string& bytes) { attempt(directory.file("x.gguf", bytes), directory.path("x.gguf")); });
  const Copy copy("qwen2");
  const string config = read_file(copy.file("config.json"));
  flip(config, config.size(), [&](const string& bytes) {
    copy.write("config.json", bytes);
    attempt(copy.folder(), copy.folder());
  });
}

}  // namespace
}  // namespace neurogen

#include "tools/common/settings.h"

#include <fmt/format.h>
#include <sched.h>

#include <charconv>
#include <cstdio>

#include "arena/error.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRecipeBatch = 32;
constexpr std::int64_t kMostWindow = 1 << 20;
// What a process needs besides its arenas, without a device to measure: on a CPU code, libraries' buffers and heap, on a
// small GPU context and cuBLAS as well.
constexpr Bytes kCpuOverhead = 128'000'000, kCudaOverhead = 200'000'000;
constexpr Bytes kCudaWorkspace = Bytes{32} << 20;  // what cuBLAS asks for on Hopper; 4 MiB before

std::int64_t whole_number(const std::string& text, const char* flag, std::int64_t least, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
    throw Error(fmt::format("{} is \"{}\": use a whole number from {} to {}", flag, text, least, most));
  }
  return value;
}

std::int64_t cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

DType compute_type(const std::string& text, bool cuda) {
  if (text == "auto") return cuda ? DType::bf16 : DType::f32;
  if (text == "fp32") return DType::f32;
  if (text == "bf16" || text == "fp16") {
    if (!cuda) throw Error("--compute " + text + " needs a GPU: use --compute fp32 on a CPU");
    return text == "bf16" ? DType::bf16 : DType::f16;
  }
  throw Error("--compute is \"" + text + "\": use auto, fp32, bf16 or fp16");
}

DType decoder_type(const std::string& text, bool cuda, DType compute) {
  const DType narrow = compute == DType::f16 ? DType::f16 : DType::bf16;
  if (text == "auto") return cuda ? narrow : DType::f32;
  if (text == "fp32") return DType::f32;
  if (text == "16bit") {
    if (!cuda) throw Error("--decoder-storage 16bit needs a GPU: use --decoder-storage fp32 on a CPU");
    return narrow;
  }
  throw Error("--decoder-storage is \"" + text + "\": use auto, fp32 or 16bit");
}

}  // namespace

void add_settings(CLI::App& app, Settings& s, bool step) {
  app.add_option("--arch", s.architecture, "full, small, tiny or an architecture file FILE.json (default: tiny on a CPU)");
  app.add_option("--budget", s.budget, "everything the process may hold, such as 3200M or 2.98Gi")->capture_default_str();
  app.add_option("--overhead", s.overhead, "the part of the budget left to libraries and heap (default 128M on a CPU, 200M with CUDA)");
  if (step) app.add_option("--batch", s.batch, "sequences a step, or auto for as many of 32 as fit")->capture_default_str();
  app.add_option("--seq", s.window, "tokens in a sequence")->capture_default_str();
  app.add_option("--device", s.device, "auto, cpu or cuda[:K]")->capture_default_str();
  app.add_option("--compute", s.compute, "auto, fp32, bf16 or fp16")->capture_default_str();
  app.add_option("--decoder-storage", s.decoder_storage, "auto, fp32 or 16bit")->capture_default_str();
  if (step) app.add_option("--decoder-tile", s.decoder_tile, "rows of the decoder that are updated together")->capture_default_str();
  app.add_option("--threads", s.threads, "CPU threads (default: one a core)");
  app.add_option("--document-end", s.document_end, "token that ends a document: memory starts afresh after it");
}

Resolved resolve(const Settings& s, bool planning) {
  Resolved r;
  if (s.device != "auto" && s.device != "cpu" && s.device.rfind("cuda", 0) != 0) {
    throw Error("--device is \"" + s.device + "\": use auto, cpu or cuda");
  }
  r.cuda = s.device.rfind("cuda", 0) == 0;
  if (r.cuda && !planning) throw Error("--device " + s.device + ": this build runs on CPUs alone: use --device cpu");
  if (s.architecture != "auto") r.architecture = read_architecture(s.architecture);
  else if (!s.architecture_json.empty()) r.architecture = parse_architecture(s.architecture_json, "the architecture of --init");
  else r.architecture = read_architecture(r.cuda ? "full" : "tiny");
  if (s.window < 1 || s.window > kMostWindow) throw Error(fmt::format("--seq is {}: use 1 to {} tokens", s.window, kMostWindow));
  if (s.decoder_tile < 1) throw Error(fmt::format("--decoder-tile is {}: use at least 1 row", s.decoder_tile));
  if (s.threads < 0 || s.threads > 1024) throw Error(fmt::format("--threads is {}: use 1 to 1024", s.threads));
  if (s.document_end < -1 || s.document_end >= r.architecture.vocabulary) {
    throw Error(fmt::format("--document-end is {}: use a token below the vocabulary's {}", s.document_end, r.architecture.vocabulary));
  }
  BrainOptions& o = r.options;
  o.window = s.window;
  r.automatic_batch = s.batch == "auto";
  o.batch = r.automatic_batch ? kRecipeBatch : whole_number(s.batch, "--batch", 1, 1 << 20);
  o.compute = compute_type(s.compute, r.cuda);
  o.decoder_storage = decoder_type(s.decoder_storage, r.cuda, o.compute);
  o.vocabulary_tile = s.decoder_tile;
  o.document_end = s.document_end;
  o.threads = r.cuda ? 0 : s.threads > 0 ? s.threads : cores();
  o.workspace = r.cuda ? kCudaWorkspace : 0;
  r.budget.bytes = parse_bytes(s.budget, "--budget");
  r.budget.overhead = s.overhead == "auto" ? (r.cuda ? kCudaOverhead : kCpuOverhead) : parse_bytes(s.overhead, "--overhead");
  return r;
}

Fit fit(const Resolved& r) {
  BrainOptions options = r.options;
  if (r.automatic_batch) options.batch = std::max<std::int64_t>(1, largest_batch(r.architecture, options, r.budget, options.batch));
  return fit_training(r.architecture, options, r.budget);
}

int refuse(const std::string& program, const Resolved& r, const Fit& fit) {
  fmt::print(stderr, "{}: {} does not fit into {} bytes: change one of the settings below\n\n{}", program,
             describe(r.architecture, fit.options), with_commas(r.budget.bytes), refusal(r.architecture, fit, r.budget));
  return Error::kMisuse;
}

}  // namespace neurogen

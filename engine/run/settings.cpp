#include "engine/run/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <vector>

#include "arena/error.h"
#include "engine/model/family.h"
#include "engine/run/process.h"
#include "kernels/base/thread_pool.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRecipeBatch = 32;
constexpr std::int64_t kMostWindow = 1 << 20;
constexpr std::int64_t kMostTile = 65'535;  // grid rows of a GPU kernel
// Memory of a process besides its arenas. On a CPU: code, libraries' buffers and heap. On a GPU also the context, which grows with
// the number of multiprocessors (measured: 418 MB on an H200, which has 132), cuBLAS and the captured programs.
constexpr Bytes kCpuOverhead = 128'000'000;
struct GpuOverhead {
  int most_multiprocessors;
  Bytes bytes;
};
constexpr std::array<GpuOverhead, 3> kGpuOverhead = {{{40, 200'000'000}, {80, 400'000'000}, {INT_MAX, 500'000'000}}};
constexpr Bytes kCudaWorkspace = Bytes{32} << 20;  // cuBLAS's default on Hopper; 4 MiB on older GPUs

std::int64_t whole_number(const std::string& text, const char* flag, std::int64_t least, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
    throw Error(fmt::format("{} is \"{}\": use a whole number from {} to {}", flag, text, least, most));
  }
  return value;
}

#ifdef NEUROGEN_CUDA
int gpus() { return CudaDevice::count(); }
Gpu gpu_of(int ordinal) {
  const CudaDevice::Traits traits = CudaDevice::traits(ordinal);
  return {traits.capability >= 80, traits.multiprocessors};
}
#else
int gpus() { return 0; }
Gpu gpu_of(int) { return {}; }
#endif

Place place_of(const std::string& text, bool planning) {
  if (text == "cpu") return {};
  if (text == "auto") return {gpus() > 0, 0};
  if (text != "cuda" && text.rfind("cuda:", 0) != 0) throw Error("--device is \"" + text + "\": use auto, cpu, cuda or cuda:K");
  const int ordinal = text == "cuda" ? 0 : static_cast<int>(whole_number(text.substr(5), "K of --device cuda:K", 0, 1 << 16));
#ifndef NEUROGEN_CUDA
  if (!planning) throw Error("--device " + text + ": this build has no CUDA: use --device cpu, or build with make CUDA=native");
#else
  if (!planning && gpus() <= ordinal) throw Error(fmt::format("--device {}: this machine has no such GPU: use --device cpu", text));
#endif
  return {true, ordinal};
}

DType compute_type(const std::string& text, std::optional<DType> saved, bool cuda, const Gpu& gpu) {
  if (text == "auto" && cuda && (saved == DType::f32 || saved == DType::f16)) return *saved;
  if (text == "auto") return !cuda ? DType::f32 : gpu.bf16 ? DType::bf16 : DType::f16;
  if (text == "fp32") return DType::f32;
  if (text == "bf16" || text == "fp16") {
    if (!cuda) throw Error("--compute " + text + " needs a GPU: use --compute fp32 on a CPU");
    if (text == "bf16" && !gpu.bf16) throw Error("--compute bf16 needs a GPU of compute capability 8.0: use --compute fp16");
    return text == "bf16" ? DType::bf16 : DType::f16;
  }
  throw Error("--compute is \"" + text + "\": use auto, fp32, bf16 or fp16");
}

DType decoder_type(const std::string& text, std::optional<DType> saved, bool cuda, DType compute) {
  const DType narrow = compute == DType::f16 ? DType::f16 : DType::bf16;
  if (text == "auto" && saved == DType::f32) return DType::f32;
  if (text == "auto") return cuda ? narrow : DType::f32;
  if (text == "fp32") return DType::f32;
  if (text == "16bit") {
    if (!cuda) throw Error("--decoder-storage 16bit needs a GPU: use --decoder-storage fp32 on a CPU");
    return narrow;
  }
  throw Error("--decoder-storage is \"" + text + "\": use auto, fp32 or 16bit");
}

// The name's place is the optimizer.
constexpr std::array<const char*, 2> kOptimizers = {"muon", "adamw"};

Optimizer optimizer_of(const std::string& text, std::optional<Optimizer> saved, const Architecture& architecture) {
  const std::vector<Optimizer> able = architecture.optimizers();
  if (text == "auto") return saved && std::count(able.begin(), able.end(), *saved) > 0 ? *saved : able.front();
  const auto found = std::find(kOptimizers.begin(), kOptimizers.end(), text);
  if (found == kOptimizers.end())
    throw Error(fmt::format("--optimizer is \"{}\": use auto, {}", text, fmt::join(kOptimizers, " or ")));
  const auto optimizer = static_cast<Optimizer>(found - kOptimizers.begin());
  if (std::count(able.begin(), able.end(), optimizer) == 0) {
    throw Error(fmt::format("--optimizer is {}: {} learns by {}", text, architecture.name(),
                            kOptimizers[static_cast<std::size_t>(able.front())]));
  }
  return optimizer;
}

}  // namespace

Resolved resolve(const Settings& s, bool planning) {
  Resolved r;
  r.place = place_of(s.device, planning);
  r.place.separate = s.separate_buffers;
  const bool cuda = r.place.gpu;
  if (s.separate_buffers && !cuda) {
    throw Error(
        "--separate-buffers is for tools that check a GPU's memory: pass --device cuda, or use make test-sanitizers for a CPU");
  }
  const Gpu gpu = s.card ? *s.card : cuda && gpus() > r.place.ordinal ? gpu_of(r.place.ordinal) : Gpu{};
  if (s.architecture != "auto") r.architecture = read_architecture(s.architecture);
  else if (!s.architecture_json.empty()) r.architecture = parse_architecture(s.architecture_json, "the saved architecture");
  else r.architecture = read_architecture(cuda ? "full" : "tiny");
  if (s.window < 1 || s.window > kMostWindow) throw Error(fmt::format("--seq is {}: use 1 to {} tokens", s.window, kMostWindow));
  if (s.window > r.architecture->context()) {
    throw Error(fmt::format("--seq is {}: {} knows {} positions: use at most that many tokens", s.window, r.architecture->name(),
                            r.architecture->context()));
  }
  if (s.decoder_tile < 1 || s.decoder_tile > kMostTile)
    throw Error(fmt::format("--decoder-tile is {}: use 1 to {} rows", s.decoder_tile, kMostTile));
  if (s.threads < 0 || s.threads > 1024) throw Error(fmt::format("--threads is {}: use 1 to 1024", s.threads));
  const std::int64_t document_end = s.document_end.value_or(s.saved_document_end);
  if (document_end < -1 || document_end >= r.architecture->vocabulary()) {
    throw Error(fmt::format("--document-end is {}: use a token below the vocabulary's {}, or -1 for none", document_end,
                            r.architecture->vocabulary()));
  }
  StepOptions& o = r.options;
  o.window = s.window;
  r.automatic_batch = s.batch == "auto";
  o.batch = r.automatic_batch ? kRecipeBatch : whole_number(s.batch, "--batch", 1, 1 << 20);
  o.compute = compute_type(s.compute, s.saved_compute, cuda, gpu);
  o.decoder_storage = decoder_type(s.decoder_storage, s.saved_decoder, cuda, o.compute);
  o.vocabulary_tile = s.decoder_tile;
  o.document_end = document_end;
  o.optimizer = optimizer_of(s.optimizer, s.saved_optimizer, *r.architecture);
  o.target = {cuda, s.threads > 0 ? s.threads : cores_of_this_process(), cuda ? kCudaWorkspace : 0};
  r.budget.bytes = parse_bytes(s.budget, "--budget");
  const Bytes automatic = !cuda ? kCpuOverhead : std::find_if(kGpuOverhead.begin(), kGpuOverhead.end(), [&](const GpuOverhead& o) {
                                                   return gpu.multiprocessors <= o.most_multiprocessors;
                                                 })->bytes;
  r.budget.overhead = s.overhead == "auto" ? automatic : parse_bytes(s.overhead, "--overhead");
  if (s.snapshot) r.budget.snapshot = cuda ? Snapshot::beside_budget : Snapshot::in_budget;
  r.budget.overlay = !s.separate_buffers;
  return r;
}

Fit fit(const Resolved& r) {
  StepOptions options = r.options;
  if (r.automatic_batch) options.batch = std::max<std::int64_t>(1, largest_batch(r.architecture, options, r.budget, options.batch));
  return fit_training(r.architecture, options, r.budget);
}

ReportFacts facts_of(const Resolved& r, const Fit& fit) {
  const char* where = r.place.separate ? ", CUDA, separate buffers" : r.place.gpu ? ", CUDA" : ", CPU";
  return {describe(*r.architecture, fit.model.options) + where, fit.model.options.tokens(), fit.minimum, kHeapCap};
}

}  // namespace neurogen

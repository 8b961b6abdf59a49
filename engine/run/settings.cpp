#include "engine/run/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <climits>
#include <sstream>
#include <vector>

#include "arena/error.h"
#include "engine/files/one_line.h"
#include "engine/model/family.h"
#include "engine/run/process.h"
#include "kernels/base/peers.h"
#include "kernels/base/thread_pool.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRecipeBatch = 32, kMostProcesses = 4096;
constexpr std::int64_t kMostWindow = 1 << 20, kMostRank = 1 << 12;
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

constexpr Field kOptimizer("optimizer"), kDevice("device"), kCompute("compute"), kDecoderStorage("decoder_storage");

void check_range(const char* field, std::int64_t value, std::int64_t least, std::int64_t most, const char* of = "") {
  if (value < least || value > most) throw Error({Field(field), fmt::format(" is {}: use {} to {}{}", value, least, most, of)});
}

// Refuses a number that is not a value of the enumeration.
template <typename Enumeration>
Error unknown(Field field, Enumeration value, const char* known) {
  return Error({field, fmt::format(" is {}: use {}", static_cast<int>(value), known)});
}

#ifdef NEUROGEN_CUDA
int gpus() { return CudaDevice::count(); }
Gpu gpu_of(int ordinal) {
  const CudaDevice::Traits traits = CudaDevice::traits(ordinal);
  return {traits.capability >= 80, traits.multiprocessors};
}
bool linked(std::int64_t ranks) { return ranks <= Peers::kMost && Peers::linked(static_cast<int>(ranks)); }
#else
int gpus() { return 0; }
Gpu gpu_of(int) { return {}; }
bool linked(std::int64_t) { return false; }
#endif

// Of several ranks, which have GPUs unless a CPU is asked for.
Place place_of_rank(const Settings& s, bool planning) {
  Place place{s.device != Device::cpu, s.local_rank};
  place.rank = s.rank;
  if (!place.gpu || planning) return place;
  if (s.gpu != 0) throw Error({kDevice, fmt::format(" cuda:{} names one GPU, and each rank has its own: leave it out", s.gpu)});
  const int shown = gpus();
  if (s.own_gpu && shown == 1) place.ordinal = 0;
  if (place.ordinal < shown) return place;
  throw Error(
      {fmt::format("rank {} needs the GPU {} of its host, which shows {}: start as many ranks as there are GPUs or, to test "
                   "without any, use ",
                   s.rank, place.ordinal, shown == 0 ? "none" : fmt::format("{} of them", shown)),
       kDevice, " cpu"});
}

Place place_of(Device device, std::int64_t gpu, bool planning) {
  if (device == Device::cpu) return {};
  if (device == Device::automatic) return {gpus() > 0, 0};
  if (device != Device::cuda) throw unknown(kDevice, device, "automatic, cpu or cuda");
  check_range("gpu", gpu, 0, kMostGpu);
  const std::string name = gpu == 0 ? " cuda" : fmt::format(" cuda:{}", gpu);
#ifndef NEUROGEN_CUDA
  if (!planning) throw Error({kDevice, name + ": this build has no CUDA: use ", kDevice, " cpu, or build with make CUDA=native"});
#else
  if (!planning && gpus() <= gpu) throw Error({kDevice, name + ": this machine has no such GPU: use ", kDevice, " cpu"});
#endif
  return {true, static_cast<int>(gpu)};
}

DType compute_type(Compute compute, std::optional<DType> saved, bool cuda, const Gpu& gpu) {
  if (compute == Compute::automatic && cuda && (saved == DType::f32 || saved == DType::f16)) return *saved;
  if (compute == Compute::automatic) return !cuda ? DType::f32 : gpu.bf16 ? DType::bf16 : DType::f16;
  if (compute == Compute::fp32) return DType::f32;
  const bool bf16 = compute == Compute::bf16;
  if (!bf16 && compute != Compute::fp16) throw unknown(kCompute, compute, "automatic, fp32, bf16 or fp16");
  if (!cuda) throw Error({kCompute, bf16 ? " bf16" : " fp16", " needs a GPU: use ", kCompute, " fp32 on a CPU"});
  if (bf16 && !gpu.bf16) throw Error({kCompute, " bf16 needs a GPU of compute capability 8.0: use ", kCompute, " fp16"});
  return bf16 ? DType::bf16 : DType::f16;
}

DType decoder_type(DecoderStorage storage, std::optional<DType> saved, bool cuda, DType compute) {
  const DType narrow = compute == DType::f16 ? DType::f16 : DType::bf16;
  if (storage == DecoderStorage::automatic) return cuda && saved != DType::f32 ? narrow : DType::f32;
  if (storage == DecoderStorage::fp32) return DType::f32;
  if (storage != DecoderStorage::sixteen_bits) throw unknown(kDecoderStorage, storage, "automatic, fp32 or sixteen_bits");
  if (!cuda) throw Error({kDecoderStorage, " 16bit needs a GPU: use ", kDecoderStorage, " fp32 on a CPU"});
  return narrow;
}

Optimizer optimizer_of(std::optional<Optimizer> asked, std::optional<Optimizer> saved, const Architecture& architecture) {
  const std::vector<Optimizer> able = architecture.optimizers();
  const auto is_able = [&](Optimizer optimizer) { return std::count(able.begin(), able.end(), optimizer) > 0; };
  if (!asked) return saved && is_able(*saved) ? *saved : able.front();
  if (*asked != Optimizer::muon && *asked != Optimizer::adamw) throw unknown(kOptimizer, *asked, "muon or adamw");
  if (!is_able(*asked)) {
    throw Error({kOptimizer, fmt::format(" is {}: {} learns by {}", name_of(*asked), architecture.name(), name_of(able.front()))});
  }
  return *asked;
}

Lora lora_of(const Settings& s, const Architecture& architecture) {
  const std::vector<std::string> able = architecture.adaptable();
  if (able.empty()) {
    throw Error(
        {Field("lora"), fmt::format(" adapts the matrices of transformers, {} is none: leave it out", architecture.name())});
  }
  check_range("lora", s.lora, 1, kMostRank);
  Lora lora{s.lora, s.lora_alpha.value_or(2 * static_cast<double>(s.lora)), able};
  if (!(lora.alpha > 0 && lora.alpha <= 1e6))
    throw Error({Field("lora_alpha"), fmt::format(" is {}: use a number above 0", lora.alpha)});
  if (s.lora_targets.empty()) return lora;
  lora.targets.clear();
  std::istringstream names(s.lora_targets);
  for (std::string name; std::getline(names, name, ',');) {
    if (std::count(able.begin(), able.end(), name) == 0) {
      throw Error({Field("lora_targets"),
                   fmt::format(" has \"{}\": use {}, separated by commas", one_line(name, 40), fmt::join(able, ", "))});
    }
    lora.targets.push_back(name);
  }
  return lora;
}

// Whether the leaner of a setting's two values is chosen, which needs AdamW for all.
template <typename Setting>
bool is_lean(const char* field, std::optional<Setting> asked, bool saved, const char* known, const Resolved& r) {
  const bool able = r.options.optimizer == Optimizer::adamw && r.options.lora.rank == 0;
  if (!asked) return saved && able;
  const auto value = static_cast<int>(*asked);
  if (value != 0 && value != 1) throw unknown(Field(field), *asked, known);
  if (value == 0 || able) return value == 1;
  if (r.options.lora.rank > 0) throw Error({Field(field), " is for training all weights: leave it out with ", Field("lora")});
  const std::vector<Optimizer> all = r.architecture->optimizers();
  if (std::count(all.begin(), all.end(), Optimizer::adamw) > 0)
    throw Error({Field(field), " is for models that AdamW updates: add ", kOptimizer, " adamw, or leave it out"});
  throw Error(
      {Field(field), fmt::format(" is for models that AdamW updates, {} learns by muon: leave it out", r.architecture->name())});
}

// Whether the logits come from products in 8 bits, which need 16-bit types, and a decoder that is updated in tiles. With fewer
// features than kWide it takes longer to round and to scale than such products save.
bool has_int8_logits(const Settings& s, const Resolved& r) {
  constexpr std::int64_t kUnit = 16, kWide = 2048;
  const bool tiled = !r.architecture->tied() && r.options.optimizer != Optimizer::adamw,
             whole = r.architecture->features() % kUnit == 0 && r.architecture->vocabulary() % kUnit == 0,
             able = size_of(r.options.compute) == 2 && r.options.decoder_storage == r.options.compute && tiled && whole;
  if (!s.logits) return able && s.saved_int8_logits.value_or(r.architecture->features() >= kWide);
  if (*s.logits != LogitsProduct::as_compute && *s.logits != LogitsProduct::int8)
    throw unknown(Field("logits"), *s.logits, "as_compute or int8");
  if (*s.logits == LogitsProduct::int8 && !able) {
    throw Error({Field("logits"),
                 " int8 is for 16-bit types on a GPU, and for an untied decoder under muon with a vocabulary and features in "
                 "multiples of 16: leave it out"});
  }
  return *s.logits == LogitsProduct::int8;
}

}  // namespace

const char* name_of(Optimizer optimizer) { return optimizer == Optimizer::muon ? "muon" : "adamw"; }

Resolved resolve(const Settings& s, bool planning) {
  Resolved r;
  check_range("gpus", s.ranks, 1, kMostProcesses);
  r.place = s.ranks > 1 ? place_of_rank(s, planning) : place_of(s.device, s.gpu, planning);
  r.place.separate = s.separate_buffers;
  const bool cuda = r.place.gpu;
  if (s.separate_buffers && !cuda) {
    throw Error({Field("separate_buffers"), " is for tools that check a GPU's memory: pass ", kDevice,
                 " cuda, or use make test-sanitizers for a CPU"});
  }
  const Gpu gpu = s.card ? *s.card : cuda && gpus() > r.place.ordinal ? gpu_of(r.place.ordinal) : Gpu{};
  if (s.architecture != "auto") r.architecture = read_architecture(s.architecture);
  else if (!s.architecture_json.empty()) r.architecture = parse_architecture(s.architecture_json, "the saved architecture");
  else r.architecture = read_architecture(cuda ? "full" : "tiny");
  check_range("window", s.window, 1, kMostWindow, " tokens");
  if (s.window > r.architecture->context()) {
    throw Error({Field("window"), fmt::format(" is {}: {} knows {} positions: use at most that many tokens", s.window,
                                              r.architecture->name(), r.architecture->context())});
  }
  check_range("decoder_tile", s.decoder_tile, 1, kMostTile, " rows");
  if (s.threads != 0) check_range("threads", s.threads, 1, 1024);
  if (s.batch != 0) check_range("batch", s.batch, 1, kMostBatch, " sequences, or 0 for as many as fit");
  check_range("accumulate", s.accumulate, 1, kMostBatch, " batches per step");
  const std::int64_t document_end = s.document_end.value_or(s.saved_document_end);
  if (document_end < -1 || document_end >= r.architecture->vocabulary()) {
    throw Error({Field("document_end"), fmt::format(" is {}: use a token below the vocabulary's {}, or -1 for none", document_end,
                                                    r.architecture->vocabulary())});
  }
  StepOptions& o = r.options;
  o.window = s.window;
  r.automatic_batch = s.batch == 0;
  o.batch = r.automatic_batch ? kRecipeBatch : s.batch;
  o.accumulate = s.accumulate;
  o.ranks = s.ranks;
  o.compute = compute_type(s.compute, s.saved_compute, cuda, gpu);
  o.decoder_storage = decoder_type(s.decoder_storage, s.saved_decoder, cuda, o.compute);
  o.vocabulary_tile = s.decoder_tile;
  o.document_end = document_end;
  o.optimizer = optimizer_of(s.optimizer, s.saved_optimizer, *r.architecture);
  if (s.lora != 0) {
    o.lora = lora_of(s, *r.architecture);
    if (s.optimizer == Optimizer::muon)
      throw Error({kOptimizer, " is muon: adapters are trained by adamw: leave it out with ", Field("lora")});
    o.optimizer = Optimizer::adamw;
  }
  o.int8_logits = has_int8_logits(s, r);
  o.narrow_weights = is_lean("weights", s.weights, s.saved_narrow_weights, "fp32 or sixteen_bits", r);
  o.narrow_moments = is_lean("moments", s.moments, s.saved_narrow_moments, "fp32 or eight_bits", r);
  o.early_updates = is_lean("updates", s.updates, s.saved_early_updates, "at_end or backward", r);
  if (o.early_updates && o.accumulate > 1) {
    throw Error({Field("updates"), " backward leaves no gradients to accumulate: use ", Field("accumulate"), " 1, or ",
                 Field("updates"), " end"});
  }
  const int multiprocessors = gpu.multiprocessors > 0 ? gpu.multiprocessors : kGpuOverhead[0].most_multiprocessors;
  const bool direct = s.card ? s.card->linked && o.ranks <= Peers::kMost : planning && cuda && linked(o.ranks);
  o.target = {cuda, s.threads > 0 ? s.threads : cores_of_this_process(), cuda ? kCudaWorkspace : 0,
              cuda && o.ranks > 1 && !direct ? nccl_bytes(multiprocessors) : 0};
  r.budget.bytes = s.budget;
  const Bytes automatic = !cuda ? kCpuOverhead : std::find_if(kGpuOverhead.begin(), kGpuOverhead.end(), [&](const GpuOverhead& o) {
                                                   return multiprocessors <= o.most_multiprocessors;
                                                 })->bytes;
  r.budget.overhead = s.overhead.value_or(automatic + heap_cap(r.architecture->vocabulary()) - kHeapCap);
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
  const StepOptions& o = fit.model.options;
  std::string where = r.place.separate ? ", CUDA, separate buffers" : r.place.gpu ? ", CUDA" : ", CPU";
  if (o.ranks > 1) where = fmt::format(", {} {}, each:", o.ranks, r.place.gpu ? "GPUs" : "processes on CPUs");
  return {describe(*r.architecture, o) + where, o.step_tokens(), fit.minimum, heap_cap(r.architecture->vocabulary()),
          o.target.nccl};
}

}  // namespace neurogen

#include "tools/common/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstdio>
#include <functional>

#include "arena/error.h"
#include "engine/model/family.h"
#include "tools/common/output.h"
#include "tools/common/spelling.h"

namespace neurogen {
namespace {

std::int64_t whole_number(std::string_view text, const char* what, std::int64_t least, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
    throw Error(fmt::format("{} is \"{}\": use a whole number from {} to {}", what, text, least, most));
  }
  return value;
}

void set_device(Settings& s, std::string_view text) {
  s.gpu = 0;
  if (text == "auto") s.device = Device::automatic;
  else if (text == "cpu") s.device = Device::cpu;
  else if (text == "cuda" || text.starts_with("cuda:")) s.device = Device::cuda;
  else throw Error(fmt::format("--device is \"{}\": use auto, cpu, cuda or cuda:K", text));
  if (text.starts_with("cuda:")) s.gpu = whole_number(text.substr(5), "K of --device cuda:K", 0, kMostGpu);
}

Compute compute_of(std::string_view text) {
  if (text == "auto") return Compute::automatic;
  if (text == "fp32") return Compute::fp32;
  if (text == "bf16") return Compute::bf16;
  if (text == "fp16") return Compute::fp16;
  throw Error(fmt::format("--compute is \"{}\": use auto, fp32, bf16 or fp16", text));
}

DecoderStorage decoder_storage_of(std::string_view text) {
  if (text == "auto") return DecoderStorage::automatic;
  if (text == "fp32") return DecoderStorage::fp32;
  if (text == "16bit") return DecoderStorage::sixteen_bits;
  throw Error(fmt::format("--decoder-storage is \"{}\": use auto, fp32 or 16bit", text));
}

std::optional<Optimizer> optimizer_of(std::string_view text) {
  if (text == "auto") return std::nullopt;
  if (text == "muon") return Optimizer::muon;
  if (text == "adamw") return Optimizer::adamw;
  throw Error(fmt::format("--optimizer is \"{}\": use auto, muon or adamw", text));
}

// An option of two values, the second the leaner.
template <typename Setting>
void add_choice(CLI::App& app, const char* name, std::optional<Setting>& setting, const char* first, const char* second,
                const char* meaning) {
  const auto set = [=, &setting](const std::string& text) {
    if (text == "auto") setting.reset();
    else if (text == first || text == second) setting = static_cast<Setting>(text == second);
    else throw Error(fmt::format("{} is \"{}\": use auto, {} or {}", name, text, first, second));
  };
  app.add_option_function<std::string>(name, set, meaning)->type_name(fmt::format("auto|{}|{}", first, second));
}

// An option whose text `set` turns into a setting.
CLI::Option* add_text(CLI::App& app, const char* name, const std::function<void(const std::string&)>& set, const char* meaning) {
  return app.add_option_function<std::string>(name, set, meaning);
}

}  // namespace

void add_settings(CLI::App& app, Settings& s, bool step) {
  app.add_option("--arch", s.architecture, "the model: a preset or an architecture file (default: full on a GPU, tiny on a CPU)")
      ->type_name(fmt::format("{}|FILE.json", fmt::join(preset_names(), "|")));
  add_text(
      app, "--budget", [&s](const std::string& text) { s.budget = parse_bytes(text, Field("budget")); },
      "hard limit on everything the run holds, such as 3200M or 2.98Gi")
      ->default_str("3200M");
  add_text(
      app, "--overhead",
      [&s](const std::string& text) {
        if (text != "auto") s.overhead = parse_bytes(text, Field("overhead"));
      },
      "part of the budget set aside for libraries and heap (default: 128M on a CPU, 200M to 500M on a GPU)");
  if (step)
    add_text(
        app, "--batch",
        [&s](const std::string& text) { s.batch = text == "auto" ? 0 : whole_number(text, "--batch", 1, kMostBatch); },
        "sequences at once, on each GPU; auto: as many as fit, at most 32")
        ->type_name("N|auto")
        ->default_str("32");
  app.add_option("--seq", s.window, "context length: tokens per sequence")->capture_default_str();
  add_text(
      app, "--device", [&s](const std::string& text) { set_device(s, text); },
      "device to run on; auto: the first GPU if there is one")
      ->type_name("auto|cpu|cuda[:K]")
      ->default_str("auto");
  add_text(
      app, "--compute", [&s](const std::string& text) { s.compute = compute_of(text); },
      "type of matrix products; auto: fp32 on a CPU, bf16 or fp16 on a GPU")
      ->type_name("auto|fp32|bf16|fp16")
      ->default_str("auto");
  add_text(
      app, "--decoder-storage", [&s](const std::string& text) { s.decoder_storage = decoder_storage_of(text); },
      "type of the stored decoder; auto: fp32 on a CPU, 16bit on a GPU")
      ->type_name("auto|fp32|16bit")
      ->default_str("auto");
  if (step) {
    add_text(
        app, "--optimizer", [&s](const std::string& text) { s.optimizer = optimizer_of(text); },
        "what updates a model: muon, with other rules for vectors, embedding and decoder; or adamw for all, with a decay of 0.1 "
        "for matrices (default: that of the checkpoint, else muon, of a tied model adamw)")
        ->type_name("auto|muon|adamw");
    add_choice(app, "--logits", s.logits, "compute", "int8",
               "products that give the logits in training; int8: of 8-bit whole numbers, faster on a GPU for 2,048 features and "
               "more, with a "
               "little noise (default: that of the checkpoint, else int8 where it is faster)");
    add_choice(app, "--weights", s.weights, "fp32", "16bit",
               "with adamw for all: type of the stored matrices and tables; 16bit: rounded at random, and no other copy of them "
               "(default: that of the checkpoint, else fp32)");
    add_choice(app, "--moments", s.moments, "fp32", "8bit",
               "likewise of AdamW's moments; 8bit: by blocks of 256 (default: those of the checkpoint, else fp32)");
    add_choice(app, "--updates", s.updates, "end", "backward",
               "likewise when: at the end of a step, or of each block during the backward pass, so that one block's gradients live "
               "at a time; each is then clipped alone (default: those of the checkpoint, else end)");
  }
  if (step) {
    app.add_option(
           "--lora", s.lora,
           "train adapters of this rank alone, beside frozen weights from --init; checkpoints hold adapters alone (learning rate "
           "0.0002 by default)")
        ->type_name("RANK");
    app.add_option("--lora-alpha", s.lora_alpha, "adapters add alpha / rank times their product (default: twice the rank)");
    app.add_option("--lora-targets", s.lora_targets, "matrices that have adapters: some of q,k,v,o,gate,up,down (default: all)");
  }
  if (step) app.add_option("--decoder-tile", s.decoder_tile, "rows of the decoder updated together")->capture_default_str();
  app.add_option("--threads", s.threads, "CPU threads (default: one per core)");
  app.add_option("--document-end", s.document_end,
                 "token that ends a document and resets the model's memory; -1: none (default: that of the weights)");
}

void add_accumulate(CLI::App& app, Settings& s) {
  app.add_option("--accumulate", s.accumulate,
                 "batches per step: a step of K x batch sequences in the memory of one batch and of every weight's gradient")
      ->type_name("K")
      ->capture_default_str();
}

void add_gpus(CLI::App& app, std::int64_t& gpus) {
  constexpr int kMostGpus = 64;  // of one host
  app.add_option("--gpus", gpus,
                 "train on this many GPUs of one machine, each with a batch of its own: a step has N x batch sequences (torchrun, "
                 "mpirun and srun start processes themselves)")
      ->type_name("N")
      ->check(CLI::Range(1, kMostGpus));
}

int refuse(const std::string& program, const Resolved& r, const Fit& fit) {
  print_error("{}: {}", program, refusal(fit, r.budget, option_of));
  return Error::kMisuse;
}

}  // namespace neurogen

#include "tools/common/settings.h"

#include <fmt/ranges.h>

#include <cstdio>

#include "arena/error.h"
#include "engine/model/family.h"
#include "tools/common/output.h"

namespace neurogen {

void add_settings(CLI::App& app, Settings& s, bool step) {
  app.add_option("--arch", s.architecture, "the model: a preset or an architecture file (default: full on a GPU, tiny on a CPU)")
      ->type_name(fmt::format("{}|FILE.json", fmt::join(preset_names(), "|")));
  app.add_option("--budget", s.budget, "hard limit on everything the run holds, such as 3200M or 2.98Gi")->capture_default_str();
  app.add_option("--overhead", s.overhead,
                 "part of the budget set aside for libraries and heap (default: 128M on a CPU, 200M to 500M on a GPU)");
  if (step)
    app.add_option("--batch", s.batch, "sequences per step; auto: as many as fit, at most 32")
        ->type_name("N|auto")
        ->capture_default_str();
  app.add_option("--seq", s.window, "context length: tokens per sequence")->capture_default_str();
  app.add_option("--device", s.device, "device to run on; auto: the first GPU if there is one")
      ->type_name("auto|cpu|cuda[:K]")
      ->capture_default_str();
  app.add_option("--compute", s.compute, "type of matrix products; auto: fp32 on a CPU, bf16 or fp16 on a GPU")
      ->type_name("auto|fp32|bf16|fp16")
      ->capture_default_str();
  app.add_option("--decoder-storage", s.decoder_storage, "type of the stored decoder; auto: fp32 on a CPU, 16bit on a GPU")
      ->type_name("auto|fp32|16bit")
      ->capture_default_str();
  if (step) {
    app.add_option(
           "--optimizer", s.optimizer,
           "what updates a model: muon, with other rules for vectors, embedding and decoder; or adamw for all, with a decay of "
           "0.1 for matrices (default: that of the checkpoint, else muon, of a tied model adamw)")
        ->type_name("auto|muon|adamw");
  }
  if (step) app.add_option("--decoder-tile", s.decoder_tile, "rows of the decoder updated together")->capture_default_str();
  app.add_option("--threads", s.threads, "CPU threads (default: one per core)");
  app.add_option("--document-end", s.document_end,
                 "token that ends a document and resets the model's memory; -1: none (default: that of the weights)");
}

int refuse(const std::string& program, const Resolved& r, const Fit& fit) {
  print_error("{}: {} does not fit into {} bytes: change one of the settings below\n\n{}", program,
              describe(*r.architecture, fit.model.options), with_commas(r.budget.bytes), refusal(fit, r.budget));
  return Error::kMisuse;
}

}  // namespace neurogen

#include "tools/common/settings.h"

#include <cstdio>

#include "arena/error.h"
#include "tools/common/output.h"

namespace neurogen {

void add_settings(CLI::App& app, Settings& s, bool step) {
  app.add_option("--arch", s.architecture,
                 "full, small, tiny or an architecture file FILE.json (default: full on a GPU, tiny on a CPU)")
      ->type_name("full|small|tiny|FILE.json");
  app.add_option("--budget", s.budget, "everything the process may hold, such as 3200M or 2.98Gi")->capture_default_str();
  app.add_option("--overhead", s.overhead,
                 "the part of the budget left to libraries and heap (default 128M on a CPU, 200M to 650M on a GPU)");
  if (step)
    app.add_option("--batch", s.batch, "sequences a step, or auto for as many of 32 as fit")
        ->type_name("N|auto")
        ->capture_default_str();
  app.add_option("--seq", s.window, "tokens in a sequence")->capture_default_str();
  app.add_option("--device", s.device, "auto, cpu or cuda[:K]")->type_name("auto|cpu|cuda[:K]")->capture_default_str();
  app.add_option("--compute", s.compute, "auto, fp32, bf16 or fp16")->type_name("auto|fp32|bf16|fp16")->capture_default_str();
  app.add_option("--decoder-storage", s.decoder_storage, "auto, fp32 or 16bit")
      ->type_name("auto|fp32|16bit")
      ->capture_default_str();
  if (step)
    app.add_option("--decoder-tile", s.decoder_tile, "rows of the decoder that are updated together")->capture_default_str();
  app.add_option("--threads", s.threads, "CPU threads (default: one a core)");
  app.add_option("--document-end", s.document_end,
                 "token that ends a document: memory starts afresh after it; -1: none (default: that of the weights)");
}

int refuse(const std::string& program, const Resolved& r, const Fit& fit) {
  print_error("{}: {} does not fit into {} bytes: change one of the settings below\n\n{}", program,
              describe(r.architecture, fit.options), with_commas(r.budget.bytes), refusal(r.architecture, fit, r.budget));
  return Error::kMisuse;
}

}  // namespace neurogen

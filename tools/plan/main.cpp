// plan: what will lie where, to the byte, on any machine, without touching a device.
#include <fmt/format.h>

#include "arena/report.h"
#include "engine/files/file_io.h"
#include "tools/common/program.h"
#include "tools/common/settings.h"

int main(int argc, char** argv) {
  using namespace neurogen;
  CLI::App app("Predicts exactly how a training step uses memory: a table, one JSON object, or a picture.", "plan");
  add_standard_options(app, "plan");
  Settings settings;
  add_settings(app, settings);
  bool json = false;
  std::string svg;
  app.add_flag("--json", json, "print one JSON object instead of the table");
  app.add_option("--svg", svg, "also write a memory map: operations across, addresses up");
  int status = 0;
  app.callback([&] {
    const Resolved resolved = resolve(settings, true);
    const Fit planned = fit(resolved);
    const ReportFacts facts{describe(resolved.architecture, planned.options) + (resolved.place.gpu ? ", CUDA" : ", CPU"),
                            planned.options.tokens(), planned.minimum};
    if (!svg.empty()) {
      AtomicFile file(svg);
      file.write(plan_svg(planned.plan, facts));
      file.commit();
    }
    if (json) fmt::print("{}\n", plan_json(planned.plan, facts));
    if (!planned.fits()) {
      status = refuse("plan", resolved, planned);
    } else if (!json) {
      fmt::print("{}", plan_table(planned.plan, facts));
    }
  });
  const int failure = run_program(app, argc, argv);
  return failure ? failure : status;
}

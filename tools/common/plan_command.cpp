#include "tools/common/plan_command.h"

#include <fmt/format.h>

#include "arena/report.h"
#include "engine/files/file_io.h"
#include "tools/common/settings.h"

namespace neurogen {
namespace {

struct PlanSettings {
  Settings common;
  bool json = false;
  std::string svg;
};

int plan(const PlanSettings& s) {
  const Resolved resolved = resolve(s.common, true);
  const Fit planned = fit(resolved);
  const ReportFacts facts = facts_of(resolved, planned);
  if (!s.svg.empty()) {
    AtomicFile file(s.svg);
    file.write(plan_svg(planned.plan, facts));
    file.commit();
  }
  if (s.json) fmt::print("{}\n", plan_json(planned.plan, facts));
  if (!planned.fits()) return refuse("plan", resolved, planned);
  if (!s.json) fmt::print("{}", plan_table(planned.plan, facts));
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, int& status) {
  auto s = std::make_shared<PlanSettings>();
  add_settings(app, s->common);
  app.add_flag("--json", s->json, "print one JSON object instead of the table");
  app.add_option("--svg", s->svg, "also write a memory map: operations across, addresses up");
  app.callback([s, &status] { status = plan(*s); });
}

}  // namespace neurogen

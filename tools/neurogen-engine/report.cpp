// neurogen-engine report: turns a run's log into one page that any browser shows without a network.
#include <string_view>

#include "arena/error.h"
#include "embedded/report_html.h"
#include "embedded/report_js.h"
#include "engine/files/atomic_file.h"
#include "tools/common/output.h"
#include "tools/common/outputs.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/run_log.h"

namespace neurogen {
namespace {

struct ReportSettings {
  std::string log, out = "report.html";
};

// JSON that is safe inside a script element: "<" is escaped, so no text can open a tag.
std::string as_script(const nlohmann::ordered_json& data) {
  std::string text;
  for (const char c : data.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace)) {
    if (c == '<') text += "\\u003c";
    else text += c;
  }
  return text;
}

int report(const ReportSettings& s) {
  check_outputs({{"the log ", s.log}}, {{"--out", s.out}});
  const std::string data = as_script(read_run_log(s.log));
  AtomicFile page(s.out);
  std::string_view rest = embedded_report_html;
  for (const auto& [marker, text] :
       {std::pair<std::string_view, std::string_view>{"@DATA@", data}, {"@SCRIPT@", embedded_report_js}}) {
    const std::size_t at = rest.find(marker);
    page.write(rest.substr(0, at));
    page.write(text);
    rest.remove_prefix(at + marker.size());
  }
  page.write(rest);
  page.commit();
  print_out("{} written from {}\n", s.out, s.log);
  return 0;
}

}  // namespace

void add_report(CLI::App& app, int& status) {
  auto s = std::make_shared<ReportSettings>();
  app.add_option("log", s->log, "file that train --log wrote")->required();
  app.add_option("-o,--out", s->out, "page to write")->capture_default_str();
  app.callback([s, &status] { status = report(*s); });
}

}  // namespace neurogen

// The report's page as a browser builds it: every figure shown as text is recomputed from the log.
#include <algorithm>
#include <cmath>
#include <map>
#include <regex>

#include "tests/tools/report.h"

namespace neurogen {
namespace {

struct Row {
  std::vector<string> cells;
};

class ReportPage : public Report {
 protected:
  void SetUp() override {
    if (std::system("command -v chromium >/dev/null") != 0) GTEST_SKIP() << "chromium is not installed here";
    ASSERT_EQ(report("run.jsonl -o page.html").status, 0);
  }
  // The document after its scripts have run, in a window of `width` pixels.
  static string built(const string& page, const string& width = "1300") {
    const ProgramResult result =
        run_program_in(*directory_,
                       "corpus --version >/dev/null; HOME=$PWD timeout 50 chromium --headless --no-sandbox --disable-gpu "
                       "--virtual-time-budget=2000 --window-size=" +
                           width + ",2000 --dump-dom " + page);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }
  // The text between the tags of the first such element after `from`.
  static string inside(const string& document, const string& opening, const string& closing, std::size_t from = 0) {
    const auto at = document.find(opening, from);
    EXPECT_NE(at, string::npos) << opening;
    if (at == string::npos) return "";
    const auto begin = document.find('>', at + opening.size() - 1) + 1;
    return document.substr(begin, document.find(closing, begin) - begin);
  }
  static string text_of(const string& document, const string& id) { return inside(document, "id=\"" + id + "\"", "</"); }
  static std::vector<Row> table(const string& document, const string& id) {
    const string text = inside(document, "<table id=\"" + id + "\"", "</table>");
    std::vector<Row> rows;
    const std::regex row("<tr>(.*?)</tr>"), cell("<td[^>]*>([^<]*)");
    for (std::sregex_iterator r(text.begin(), text.end(), row), end; r != end; ++r) {
      const string cells = (*r)[1];
      Row& to = rows.emplace_back();
      for (std::sregex_iterator c(cells.begin(), cells.end(), cell); c != end; ++c) to.cells.push_back((*c)[1]);
    }
    rows.erase(rows.begin());  // its head
    return rows;
  }
  // `shown` is `value` with this many decimals; browsers and C++ round halves differently. Commas and text after the number are
  // ignored.
  static void expect_shown(const string& shown, double value, int decimals, const string& what) {
    string number = shown.substr(0, shown.find_first_not_of("-0123456789.,"));
    std::erase(number, ',');
    ASSERT_NE(number, "") << what << ": " << shown;
    EXPECT_NEAR(std::stod(number), value, 0.5 * std::pow(10, -decimals) + 1e-9 * std::abs(value)) << what;
    const auto point = number.find('.');
    EXPECT_EQ(point == string::npos ? 0 : static_cast<int>(number.size() - point) - 1, decimals) << what << ": " << shown;
  }
  static string as_text(const string& from) {  // escaped as between tags
    string text;
    for (const char c : from) text += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : string(1, c);
    return text;
  }
};

TEST_F(ReportPage, TilesAndLinesShowTheLogsFigures) {
  const string document = built("page.html");
  const json start = events("start").at(0), step = events("step").back(), eval = events("eval").back(), plan = start["plan"];
  const auto tile = [&](const string& id, double value, int decimals) {
    expect_shown(text_of(document, "tile-" + id), value, decimals, id);
  };
  tile("steps", 25, 0);
  tile("tokens", 25 * 4 * 32, 0);
  tile("loss", step["loss"], 4);
  tile("valid", eval["valid_loss"], 4);
  tile("perplexity", eval["perplexity"], 2);
  tile("speed", events("summary").at(0)["tokens_per_s"], 0);
  tile("allocations", step["host_allocations"], 0);
  const string memory = text_of(document, "tile-memory");
  expect_shown(memory, plan["total_bytes"].get<double>() / 1e6, 1, "planned");
  expect_shown(memory.substr(memory.find(" of ") + 4), plan["budget_bytes"].get<double>() / 1e6, 1, "budget");
  const std::regex any("id=\"tile-[a-z]+\"");
  EXPECT_EQ(std::distance(std::sregex_iterator(document.begin(), document.end(), any), std::sregex_iterator()),
            8);  // each is checked above

  EXPECT_EQ(text_of(document, "title"), start["arch"]["name"].get<string>() + ", " + start["device"].get<string>());
  EXPECT_EQ(text_of(document, "about"), "run.jsonl, seed " + start["seed"].dump());
  std::size_t buffers = 0;
  for (const json& buffer : plan["buffers"]) buffers += buffer["arena"] == "device" && buffer["bytes"] > 0;
  const string about = text_of(document, "memory-about"), begin = std::to_string(buffers) + " buffers in ";
  ASSERT_EQ(about.rfind(begin, 0), 0u) << about;
  expect_shown(about.substr(begin.size()), plan["device_arena_bytes"], 0, "arena");

  // The newest sample first, each with its step, prompt and text.
  auto samples = events("sample");
  std::reverse(samples.begin(), samples.end());
  std::size_t at = document.find("id=\"samples\"");
  for (const json& sample : samples) {
    const string shown = "<small>step " + sample["step"].dump() + "</small><i>" + as_text(sample["prompt"]) + "</i>" +
                         as_text(sample["text"]) + "</div>";
    at = document.find(shown, at);
    ASSERT_NE(at, string::npos) << shown;
  }
}

TEST_F(ReportPage, OperationsShowTheirTimes) {
  const string document = built("page.html");
  const json times = events("times").back();
  const auto operations = events("program").at(0)["operations"].get<std::vector<string>>();
  const auto ms = times["ms"].get<std::vector<double>>();
  struct Family {
    int count = 0;
    double ms = 0;
  };
  std::map<string, Family> families;
  double all = 0;
  for (std::size_t o = 0; o < ms.size(); ++o) {
    Family& family = families[std::regex_replace(operations[o], std::regex("[0-9]+"), "#")];
    ++family.count, family.ms += ms[o], all += ms[o];
  }
  const string about = text_of(document, "times-about"),
               begin = "Step " + times["step"].dump() + ", each operation timed separately: ";
  ASSERT_EQ(about.rfind(begin, 0), 0u) << about;
  expect_shown(about.substr(begin.size()), all, 2, "all");

  const std::vector<Row> rows = table(document, "times");
  const std::size_t most = 24, others = families.size() - std::min(families.size(), most);
  ASSERT_EQ(rows.size(), families.size() - others + (others > 0));
  double last = INFINITY;
  for (const Row& row : rows) {
    const string& name = row.cells.at(0);
    Family shown = families[name];
    if (others > 0 && &row == &rows.back()) {  // all remaining operations
      EXPECT_EQ(name, std::to_string(others) + " others");
      for (const auto& [_, family] : families) shown.count += family.count, shown.ms += family.ms;
    } else {
      EXPECT_LE(shown.ms, last) << name;
      last = shown.ms;
    }
    families.erase(name);
    expect_shown(row.cells.at(1), shown.count, 0, name);
    expect_shown(row.cells.at(2), shown.ms, 3, name);
    expect_shown(row.cells.at(3), 100 * shown.ms / all, 1, name);
  }
}

TEST_F(ReportPage, ModulesShowTheirActivity) {
  // One more line in which no two figures are equal: in so small a brain no output is dead.
  json activity = events("activity").back();
  activity["step"] = 26, activity["tokens"] = 1234;
  double figure = 0.0123456;
  for (json& module : activity["modules"]) {
    for (const char* field : {"mean", "spread", "dead", "saturated"}) module[field] = figure += 0.0234567;
    for (json& constant : module["time_constants"]) {
      if (constant != 0) constant = 100 * (figure += 0.0234567);
    }
  }
  directory_->file("more.jsonl", read_file(directory_->path("run.jsonl")) + activity.dump() + "\n");
  ASSERT_EQ(report("more.jsonl -o more.html").status, 0);
  const string document = built("more.html");
  const string about = text_of(document, "modules-about"), begin = "After step " + activity["step"].dump() + ", over ";
  ASSERT_EQ(about.rfind(begin, 0), 0u) << about;
  expect_shown(about.substr(begin.size()), activity["tokens"], 0, "tokens");
  const std::vector<Row> rows = table(document, "modules");
  ASSERT_EQ(rows.size(), activity["modules"].size());
  std::vector<string> names;
  for (const Row& row : rows) {
    const string& name = names.emplace_back(row.cells.at(0));
    const json& module = activity["modules"][name];
    ASSERT_TRUE(module.is_object()) << name;
    expect_shown(row.cells.at(1), module["mean"], 4, name + " mean");
    expect_shown(row.cells.at(2), module["spread"], 4, name + " spread");
    expect_shown(row.cells.at(3), 100 * module["dead"].get<double>(), 1, name + " dead");
    expect_shown(row.cells.at(4), 100 * module["saturated"].get<double>(), 1, name + " saturated");
    const auto constants = module["time_constants"].get<std::vector<double>>();
    for (std::size_t t = 0; t < 5; ++t) {
      if (name == "hippocampus") EXPECT_EQ(row.cells.at(5 + t), "");  // has no time constants
      else expect_shown(row.cells.at(5 + t), constants[t], 2, name + " time constant " + std::to_string(t));
    }
  }
  EXPECT_EQ(names, (std::vector<string>{"thalamus", "wernicke", "hippocampus", "basal_ganglia", "prefrontal", "broca"}));
}

// Pointing at a buffer of the memory map, and at the curves.
TEST_F(ReportPage, PointingShowsTheLogsFigures) {
  const json activity = events("activity").back(), start = events("start").at(0);
  for (const char* width : {"400", "1300"}) {
    const auto pointed = [&](const string& element, const string& event) {
      directory_->file("pointed.html", page() + "<script>setTimeout(() => { const e = document.querySelector('" + element +
                                           "'), box = e.getBoundingClientRect();"
                                           " e.dispatchEvent(new PointerEvent('pointermove', {" +
                                           event + "})); }, 500)</script>");
      return built("pointed.html", width);
    };
    const string document = pointed("[data-name=\"embedding.weight\"]", "");
    EXPECT_EQ(text_of(document, "tip"), "embedding.weight\n38,400 bytes, f32 [300, 32]\npersistent, alive always\naddress 0");
    // One rectangle per buffer of the device arena.
    std::size_t buffers = 0;
    for (const json& buffer : start["plan"]["buffers"]) {
      if (buffer["arena"] != "device" || buffer["bytes"] == 0) continue;
      ++buffers;
      EXPECT_NE(document.find("data-name=\"" + buffer["name"].get<string>() + "\""), string::npos) << buffer["name"];
    }
    const std::regex named(" data-name=");
    EXPECT_EQ(std::distance(std::sregex_iterator(document.begin(), document.end(), named), std::sregex_iterator()),
              static_cast<std::ptrdiff_t>(buffers));
    // The right end of the gates' curves is the latest measurement.
    std::istringstream lines(text_of(pointed("#gates svg", "clientX: box.right"), "tip"));
    for (const char* name : {"mean", "open", "shut"}) {
      string line;
      std::getline(lines, line);
      const string begin = string(name) + ", step " + activity["step"].dump() + ": ";
      ASSERT_EQ(line.rfind(begin, 0), 0u) << line;
      EXPECT_NEAR(std::stod(line.substr(begin.size())), activity["gates"][name], 5.1e-7) << name;
    }
  }
}

}  // namespace
}  // namespace neurogen

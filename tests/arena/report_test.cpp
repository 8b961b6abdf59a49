#include "arena/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/arena/graph.h"

namespace neurogen {
namespace {

Plan sample(Bytes budget = 3000000000) {
  PlanRequest request = training_graph(1024);
  request.budget = budget;
  request.overhead = 200000000;
  return make_plan(request);
}
ReportFacts facts(const Plan& plan) { return {"a <title> & more", 1024, plan.total()}; }

TEST(Report, JsonHasExactlyTheDocumentedFields) {
  const Plan plan = sample();
  const auto json = nlohmann::ordered_json::parse(plan_json(plan, facts(plan)));
  const auto keys = [](const nlohmann::ordered_json& object) {
    std::string names;
    for (const auto& item : object.items()) names += item.key() + " ";
    return names;
  };
  EXPECT_EQ(keys(json),
            "budget_bytes device_arena_bytes host_arena_bytes overhead_bytes total_bytes lower_bound_bytes "
            "minimum_budget_bytes fits tokens_per_step buffers ");
  Plan with = plan;
  with.snapshot = Snapshot::beside_budget;
  const auto more = nlohmann::ordered_json::parse(plan_json(with, facts(with)));
  EXPECT_EQ(keys(more), keys(json).replace(keys(json).find("buffers "), 0, "snapshot "));
  EXPECT_EQ(more["snapshot"], (nlohmann::ordered_json{{"bytes", plan.device.persistent}, {"in_budget", false}}));
  ReportFacts several = facts(plan);
  several.nccl = 50'000'000;
  const auto ranks = nlohmann::ordered_json::parse(plan_json(plan, several));
  EXPECT_EQ(keys(ranks), keys(json).replace(keys(json).find("buffers "), 0, "nccl_bytes "));
  EXPECT_EQ(ranks["nccl_bytes"], 50'000'000);
  EXPECT_EQ(json["budget_bytes"], 3000000000u);
  EXPECT_EQ(json["device_arena_bytes"], plan.device.bytes);
  EXPECT_EQ(json["host_arena_bytes"], plan.host.bytes);
  EXPECT_EQ(json["overhead_bytes"], 200000000u);
  EXPECT_EQ(json["total_bytes"], plan.device.bytes + plan.host.bytes + 200000000);
  EXPECT_EQ(json["lower_bound_bytes"], plan.device.lower_bound + plan.host.lower_bound + 200000000);
  EXPECT_EQ(json["minimum_budget_bytes"], plan.total());
  EXPECT_EQ(json["fits"], true);
  EXPECT_EQ(json["tokens_per_step"], 1024);
  ASSERT_EQ(json["buffers"].size(), plan.buffers.size());
  for (std::size_t i = 0; i < plan.buffers.size(); ++i) {
    const Buffer& buffer = plan.buffers[i];
    const auto& entry = json["buffers"][i];
    EXPECT_EQ(keys(entry), "name dtype shape bytes arena kind first_op last_op offset ");
    EXPECT_EQ(entry["name"], buffer.name);
    EXPECT_EQ(entry["dtype"], name_of(buffer.dtype));
    EXPECT_EQ(entry["shape"].get<Shape>(), buffer.shape);
    EXPECT_EQ(entry["bytes"], buffer.bytes);
    EXPECT_EQ(entry["arena"], name_of(buffer.arena));
    EXPECT_EQ(entry["kind"], name_of(buffer.kind));
    EXPECT_EQ(entry["first_op"], buffer.first_op);
    EXPECT_EQ(entry["last_op"], buffer.last_op);
    EXPECT_EQ(entry["offset"], buffer.offset);
  }
}

TEST(Report, TableFitsAHundredColumnsAndItsClassesSumUp) {
  const Plan plan = sample();
  std::istringstream lines(plan_table(plan, facts(plan)));
  Bytes at_peak = 0;
  bool device = false, grouped = false;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 100u) << line;
    if (line.find(" buffers ") != std::string::npos) device = line.starts_with("device arena   ");
    std::string word, count, bytes, peak;
    std::istringstream(line) >> word >> count >> bytes >> peak;
    std::erase(peak, ',');
    const bool of_class = line.starts_with("  ") && (word == "persistent" || word == "derived" || word == "transient");
    if (device && of_class) at_peak += std::stoull(peak);
    grouped = grouped || line.find("decoder.gradient #                               5") != std::string::npos;
  }
  EXPECT_EQ(at_peak, plan.device.lower_bound);
  EXPECT_TRUE(grouped);
}

TEST(Report, RefusalNamesWhatIsMissingAndTheLargestFirst) {
  const Plan plan = sample(1000000000);
  const std::string text = refusal_table(plan);
  EXPECT_NE(text.find(with_commas(plan.total() - 1000000000)), std::string::npos);
  const std::size_t list = text.find("alive at the peak");
  ASSERT_NE(list, std::string::npos);
  EXPECT_LT(text.find("decoder.weight", list), text.find("decoder.gradient", list));
  EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 40);
}

// Parses enough XML to check that every element is closed and every text escaped.
void expect_well_formed(const std::string& svg) {
  std::vector<std::string> open;
  for (std::size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const std::size_t end = svg.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = svg.substr(at + 1, end - at - 1), name = tag.substr(0, tag.find_first_of(" \n"));
    if (tag.ends_with('/')) continue;
    if (!tag.starts_with('/')) {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty());
    ASSERT_EQ(open.back(), name.substr(1));
    open.pop_back();
  }
  EXPECT_TRUE(open.empty());
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(Report, PictureShowsEveryBufferOfTheDevice) {
  Plan plan = sample();
  plan.buffers[0].name = "a < b & \"c\"";
  const std::string svg = plan_svg(plan, facts(plan));
  expect_well_formed(svg);
  std::size_t titles = 0, wanted = 0;
  for (std::size_t at = svg.find("<title>"); at != std::string::npos; at = svg.find("<title>", at + 1)) ++titles;
  for (const Buffer& buffer : plan.buffers) wanted += buffer.arena == ArenaKind::device;
  EXPECT_EQ(titles, wanted);
  EXPECT_NE(svg.find("a &lt;title&gt; &amp; more"), std::string::npos);
  EXPECT_NE(svg.find("<title>a &lt; b &amp; &quot;c&quot;\n"), std::string::npos);
  plan.buffers[0].name = "a\x1B[31m\uFFFEb\u2028c";
  const std::string controlled = plan_svg(plan, facts(plan));
  EXPECT_NE(controlled.find("<title>a\uFFFD[31m\uFFFDb\u2028c\n"), std::string::npos);
  plan.buffers[0].name = "\u2028\xFF";
  const std::string json = plan_json(plan, facts(plan));
  EXPECT_TRUE(std::all_of(json.begin(), json.end(), [](char c) { return c >= ' ' && c < 0x7F; }));
  EXPECT_EQ(nlohmann::json::parse(json)["buffers"][0]["name"], "\u2028\uFFFD");
}

TEST(Report, EmptyPlansHaveReportsToo) {
  for (const PlanRequest& request :
       {PlanRequest{}, PlanRequest{.buffers = {{.name = "w", .shape = {3}, .kind = BufferKind::persistent}}},
        PlanRequest{.buffers = {{.name = "x", .shape = {3}}}, .operations = {"only"}}}) {
    const Plan plan = make_plan(request);
    expect_well_formed(plan_svg(plan, facts(plan)));
    EXPECT_FALSE(plan_table(plan, facts(plan)).empty());
    EXPECT_FALSE(refusal_table(plan).empty());
    EXPECT_TRUE(nlohmann::json::accept(plan_json(plan, facts(plan))));
  }
}

}  // namespace
}  // namespace neurogen

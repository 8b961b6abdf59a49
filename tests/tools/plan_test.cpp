// plan for cards, with --fit, and with --compare.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

class PlanTest : public testing::Test {
 protected:
  ProgramResult run(const string& arguments) const { return run_program_in(directory_, "plan " + arguments); }
  json plan(const string& arguments) const { return json::parse(run(arguments + " --json").out); }
  void refuses(const string& arguments, const string& sentence) const {
    const ProgramResult result = run(arguments);
    EXPECT_EQ(result.status, 2) << arguments;
    EXPECT_NE(result.err.find(sentence), string::npos) << result.err << "lacks: " << sentence;
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }
  TemporaryDirectory directory_;
};

// The only card measured (docs/history.md): the printed range holds its measured speed.
TEST_F(PlanTest, ExpectsWhatTheMeasuredCardReached) {
  for (const auto& [arch, measured] : {std::pair{"full", 302'596.0}, {"small", 960'182.0}}) {
    const json card = plan(string("--card h200 --budget 3200M --overhead 430M --arch ") + arch)["card"];
    EXPECT_GT(card["roofline_tokens_per_s"], measured);
    EXPECT_LE(card["expected_tokens_per_s"][0], measured);
    EXPECT_GE(card["expected_tokens_per_s"][1], measured);
  }
}

TEST_F(PlanTest, PlansForACardOfTheTableOrAFile) {
  const json turing = plan("--card gtx1650 --arch small --batch 8");
  EXPECT_EQ(turing["budget_bytes"], 4294967296 / 20 * 19);
  EXPECT_EQ(turing["overhead_bytes"], 200'000'000);
  EXPECT_NE(run("--card gtx1650 --arch small --batch 8").out.find("TFLOP/s in f16"), string::npos);
  EXPECT_NE(run("--card rtx3060 --arch small --batch 8").out.find("TFLOP/s in bf16"), string::npos);
  EXPECT_EQ(plan("--card gtx1650 --arch small --batch 8 --budget 3G")["budget_bytes"], 3'000'000'000);
  const string own = R"({"title": "mine", "capability": 75, "multiprocessors": 60, "memory_bytes": 6e9, "bytes_per_s": 256e9,
    "f32_flops_per_s": 5.96e12, "half_flops_per_s": 5.96e12})";
  directory_.file("mine.json", own);
  const json mine = plan("--card mine.json --arch small --batch 8");
  EXPECT_EQ(mine["overhead_bytes"], 400'000'000);
  // Twice the rates, half the time.
  EXPECT_NEAR(mine["card"]["roofline_tokens_per_s"].get<double>() / turing["card"]["roofline_tokens_per_s"].get<double>(), 2, 1e-6);
  refuses("--card gtx1", "--card is \"gtx1\": use gtx1650, ");
  refuses("--card gtx1050ti", "GeForce GTX 1050 Ti (GP107) has compute capability 6.1, 7.5 is needed: use --device cpu");
  refuses("--card none.json", "none.json does not exist");
  directory_.file("wrong.json", "{");
  refuses("--card wrong.json", "wrong.json is not JSON");
  for (const char* open : {"[", "{\"capability\":"}) {
    string nested = "{\"capability\":";
    for (int i = 0; i < 100'000; ++i) nested += open;
    directory_.file("wrong.json", nested);
    refuses("--card wrong.json", "wrong.json: nested too deeply");
  }
  directory_.file("wrong.json", "[1]");
  refuses("--card wrong.json", "wrong.json holds no JSON object");
  for (const char* field :
       {"capability", "multiprocessors", "memory_bytes", "bytes_per_s", "f32_flops_per_s", "half_flops_per_s"}) {
    json changed = json::parse(own);
    for (const json& value : {json("fast"), json(-1), json(1e30), json(nullptr)}) {
      changed[field] = value;
      directory_.file("wrong.json", changed.dump());
      refuses("--card wrong.json", string(field) + " is ");
    }
    changed.erase(field);
    directory_.file("wrong.json", changed.dump());
    refuses("--card wrong.json", string("has no ") + field);
  }
}

// Computes the table's rates a second way from the maker's data: multiprocessors x f32 units in each x 2 x boost clock.
TEST_F(PlanTest, CardsAgreeWithTheirClocks) {
  const std::map<string, double> gigahertz = {{"gtx1650", 1.665},
                                              {"rtx3050", 1.777},
                                              {"rtx3060", 1.777},
                                              {"rtx3090", 1.695},
                                              {"rtx4060", 2.46},
                                              {"rtx4090", 2.52},
                                              {"t4", 1.59},
                                              {"a100", 1.41},
                                              {"h100", 1.98},
                                              {"h200", 1.98},
                                              {"gtx1650-gddr6", 1.59},
                                              {"gtx1650-laptop", 1.56},
                                              {"gtx1650-maxq", 1.125},
                                              {"gtx1650ti-laptop", 1.485},
                                              {"gtx1650super", 1.725},
                                              {"mx550", 1.32},
                                              {"t500", 1.695},
                                              {"t550", 1.665},
                                              {"t400", 1.425},
                                              {"t600", 1.335},
                                              {"t1000", 1.395},
                                              {"rtx2050-laptop", 1.477},
                                              {"rtx3050-laptop", 1.74},
                                              {"rtx3050ti-laptop", 1.695},
                                              {"gtx1660super", 1.785},
                                              {"rtx2060", 1.68},
                                              {"rtx3070", 1.725},
                                              {"rtx4050-laptop", 2.37},
                                              {"rtx4060-laptop", 2.37},
                                              {"rtx4060ti", 2.535},
                                              {"rtx4070", 2.475},
                                              {"rtx5060", 2.497},
                                              {"rtx5060ti", 2.572},
                                              {"rtx5070", 2.512},
                                              {"rtx5080", 2.617},
                                              {"rtx5090", 2.407},
                                              {"gtx1050ti", 1.392}};
  const std::map<int, double> units = {{61, 128}, {75, 64}, {80, 64}, {86, 128}, {89, 128}, {90, 128}, {120, 128}};
  const json cards = json::parse(read_file(source_folder() + "/schemas/cards.json"));
  EXPECT_EQ(cards.size(), gigahertz.size());
  for (const json& card : cards) {
    const double expected = card["multiprocessors"].get<double>() * units.at(card["capability"]) * 2e9 * gigahertz.at(card["name"]);
    EXPECT_NEAR(card["f32_flops_per_s"].get<double>() / expected, 1, 0.007) << card["name"];
    EXPECT_GE(card["half_flops_per_s"], card["f32_flops_per_s"]);
    const string source = card["source"];
    EXPECT_TRUE(source.starts_with("NVIDIA, ") || source.starts_with("TechPowerUp's database, ")) << source;
  }
}

// A card's memory rate (gigabits per second per pin x bus width) and size match its source.
TEST_F(PlanTest, CardsAgreeWithTheirMemory) {
  int checked = 0;
  for (const json& card : json::parse(read_file(source_folder() + "/schemas/cards.json"))) {
    const string source = card["source"];
    std::smatch found;
    if (!std::regex_search(source, found, std::regex("([0-9]+) GB of GDDR[567]X? at ([0-9.]+) Gbit/s on ([0-9]+) bits"))) continue;
    EXPECT_EQ(card["memory_bytes"], std::stoull(found[1]) << 30) << card["name"];
    EXPECT_NEAR(card["bytes_per_s"].get<double>() / (std::stod(found[2]) * 1e9 * std::stod(found[3]) / 8), 1, 0.001)
        << card["name"];
    ++checked;
  }
  EXPECT_GE(checked, 30);
}

// Up to eight, each of which reaches the memory of all.
TEST_F(PlanTest, CardsThatNVLinkConnectsNeedNoNccl) {
  const auto nccl = [&](const string& cards) { return plan("--arch tiny --budget 3G " + cards).value("nccl_bytes", 0); };
  EXPECT_EQ(nccl("--card h200 --gpus 8"), 0);
  EXPECT_GT(nccl("--card h200 --gpus 9"), 900'000'000);
  EXPECT_GT(nccl("--card rtx4090 --gpus 2"), 800'000'000);
  EXPECT_EQ(nccl("--card rtx4090"), 0);
}

TEST_F(PlanTest, FitsTheLargestBrainOfTheSameProportions) {
  const string common = " --device cpu --batch 4 --seq 64 --budget 400M";
  const json found = plan("--arch tiny --fit" + common);
  EXPECT_EQ(found["fits"], true);
  json brain = found["architecture"];
  const json tiny = json::parse(read_file(source_folder() + "/schemas/presets/tiny.json"));
  const double factor = brain["embedding"].get<double>() / tiny["embedding"].get<double>();
  EXPECT_GT(factor, 1);
  for (const auto& [name, module] : tiny.items()) {
    if (!module.is_object()) continue;
    EXPECT_EQ(brain[name]["outputs"], module["outputs"].get<double>() * factor) << name;
    EXPECT_EQ(brain[name]["neurons"], module["neurons"].get<double>() * factor) << name;
    EXPECT_EQ(brain[name]["fan_in"], module["fan_in"]) << name;
  }
  directory_.file("found.json", brain.dump());
  EXPECT_EQ(plan("--arch found.json" + common)["total_bytes"], found["total_bytes"]);
  // The next one, 32 more of the narrowest module, does not fit.
  const double next = 1 + 32 / brain["embedding"].get<double>();
  brain["embedding"] = std::llround(brain["embedding"].get<double>() * next);
  for (auto& [name, module] : brain.items()) {
    if (!module.is_object()) continue;
    for (const char* field : {"outputs", "neurons"}) module[field] = std::llround(module[field].get<double>() * next);
  }
  directory_.file("next.json", brain.dump());
  EXPECT_EQ(plan("--arch next.json" + common)["fits"], false);
  refuses("--arch full --fit --device cpu --budget 130M", "no model of the proportions of full fits into 130,000,000 bytes");
}

TEST_F(PlanTest, ComparesTwoSettings) {
  const ProgramResult result = run("--compare small \"tiny --batch 8 --seq 128\" --device cpu --budget 1G");
  EXPECT_EQ(result.status, 0) << result.err;
  const json tiny = plan("--arch tiny --batch 8 --seq 128 --device cpu --budget 1G");
  EXPECT_NE(result.out.find("8 x 128"), string::npos) << result.out;
  string total = std::to_string(tiny["device_arena_bytes"].get<long>());
  for (int at = static_cast<int>(total.size()) - 3; at > 0; at -= 3) total.insert(static_cast<std::size_t>(at), ",");
  EXPECT_NE(result.out.find(total), string::npos) << result.out << total;
  refuses("--compare small \"tiny --color\"", "--compare \"tiny --color\"");
  refuses("--compare small", "--compare");
}

// What the table says of a model, a way and a card: the tokens of a step, 0 if it does not fit.
std::int64_t tokens_in(const string& table, const string& model, const string& way, std::size_t column) {
  const auto at = table.find(fmt::format("\n{:<16}{:<16}", model, way));
  if (at == string::npos) ADD_FAILURE() << table << "lacks " << model << " " << way;
  const string cell = table.substr(at + 1 + 32 + 26 * column, 26);
  std::smatch found;
  if (!std::regex_search(cell, found, std::regex("([0-9,]+) tokens, [0-9,]+/s"))) return 0;
  string digits = found[1];
  std::erase(digits, ',');
  return std::stoll(digits);
}

TEST_F(PlanTest, SaysWhatCanBeFineTunedOnWhichCard) {
  const string table = run("--fine-tune").out;
  EXPECT_NE(table.find("gtx1650, 3.20 GB"), string::npos) << table;
  const struct {
    const char* model;
    std::int64_t whole[4], lean[4], lora[4];
  } rows[] = {{"gpt2", {0, 8192, 8192, 8192}, {8192, 8192, 8192, 8192}, {8192, 8192, 8192, 8192}},
              {"smollm2-135m", {0, 8192, 8192, 8192}, {8192, 8192, 8192, 8192}, {8192, 8192, 8192, 8192}},
              {"smollm2-360m", {0, 0, 0, 8192}, {256, 8192, 8192, 8192}, {6144, 8192, 8192, 8192}},
              {"qwen2.5-0.5b", {0, 0, 0, 0}, {0, 2560, 8192, 8192}, {4864, 8192, 8192, 8192}}};
  for (const auto& row : rows) {
    for (std::size_t card = 0; card < 4; ++card) {
      EXPECT_EQ(tokens_in(table, row.model, "all weights", card), row.whole[card]) << row.model << card;
      EXPECT_EQ(tokens_in(table, row.model, "leaner storage", card), row.lean[card]) << row.model << card;
      EXPECT_EQ(tokens_in(table, row.model, "--lora 8", card), row.lora[card]) << row.model << card;
    }
  }
}

// The heap of a larger vocabulary is part of the overhead, the minimum and the table.
TEST_F(PlanTest, CountsTheHeapOfALargeTokenizer) {
  const string model = "--device cpu --batch 1 --seq 16 --arch ";
  const auto usual = plan(model + "smollm2-135m"), large = plan(model + "qwen2.5-0.5b");
  const std::int64_t more = 384 * (151'936 - 65'536);
  EXPECT_EQ(usual["overhead_bytes"], 128'000'000);
  EXPECT_EQ(large["overhead_bytes"], 128'000'000 + more);
  EXPECT_EQ(plan(model + "qwen2.5-0.5b --overhead 128M")["minimum_budget_bytes"].get<std::int64_t>(),
            large["minimum_budget_bytes"].get<std::int64_t>() - more);
  EXPECT_NE(run(model + "qwen2.5-0.5b --budget 20G").out.find("97,177,600   97.2 MB\n"), string::npos);
}

// A cell of the table is the plan of those settings.
TEST_F(PlanTest, FineTuningIsPlannedAsAnyOtherRun) {
  const string lean = " --weights 16bit --moments 8bit --updates backward";
  const string card = "--arch smollm2-360m --seq 128 --card gtx1650 --budget 2G";
  const string table = run("--fine-tune " + card).out;
  EXPECT_EQ(plan(card + " --batch auto" + lean)["tokens_per_step"], tokens_in(table, "smollm2-360m", "leaner storage", 0)) << table;
  EXPECT_EQ(tokens_in(run("--fine-tune --lora 64 " + card).out, "smollm2-360m", "--lora 64", 0),
            plan(card + " --batch auto --lora 64")["tokens_per_step"]);
  EXPECT_EQ(table.find("gpt2"), string::npos);
}

}  // namespace
}  // namespace neurogen

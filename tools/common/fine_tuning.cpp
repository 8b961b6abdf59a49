#include "tools/common/fine_tuning.h"

#include <fmt/format.h>

#include <vector>

#include "engine/run/leaner.h"
#include "engine/run/weights.h"
#include "tools/common/card.h"
#include "tools/common/output.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRank = 8;
constexpr const char* kModels[] = {"gpt2", "smollm2-135m", "smollm2-360m", "qwen2.5-0.5b"};

struct Column {
  Card card;
  Bytes budget;
};

std::vector<Column> columns_of(const Settings& settings, const std::string& card, bool budget_given) {
  std::vector<Column> columns;
  if (!card.empty()) {
    columns = {{read_card(card), 0}};
    columns[0].budget = columns[0].card.usable();
  } else {
    for (const auto& [name, budget] : {std::pair{"mx550", Bytes{2'000'000'000}},
                                       {"gtx1650", 3'200'000'000},
                                       {"rtx2060", 6'000'000'000},
                                       {"rtx3050", 8'000'000'000}})
      columns.push_back({read_card(name), budget});
  }
  for (Column& column : columns)
    if (budget_given) column.budget = settings.budget;
  return columns;
}

// "8,192 tokens, 310/s", or the smallest budget.
std::string cell(Settings settings, const Column& column, bool lean) {
  settings.batch = 0;
  settings.budget = column.budget;
  plan_for(column.card, true, settings);
  Resolved resolved = resolve(settings, true);
  if (lean)
    for (const Leaner& way : leaner(resolved.options)) way.apply(resolved.options);
  const Fit found = fit(resolved);
  if (!found.fits()) return fmt::format("needs {}", human(found.minimum));
  const std::int64_t tokens = found.model.options.step_tokens();
  const double rate = kReachedLeast * static_cast<double>(tokens) / roofline_seconds(column.card, found.model);
  return fmt::format("{} tokens, {}/s", with_commas(static_cast<Bytes>(tokens)), with_commas(static_cast<Bytes>(rate)));
}

}  // namespace

void print_fine_tuning(const Settings& settings, const std::string& init, const std::string& card, bool budget_given) {
  const std::vector<Column> columns = columns_of(settings, card, budget_given);
  std::vector<Settings> models;
  if (!init.empty() || settings.architecture != "auto") {
    models = {settings};
    if (!init.empty()) WeightFile(init).adopt(models[0]);
  } else {
    for (const char* name : kModels) models.emplace_back(settings).architecture = name;
  }
  print_out("{:<32}", fmt::format("{} tokens a sequence", settings.window));
  for (const Column& c : columns) print_out("{:>26}", fmt::format("{}, {}", c.card.name, human(c.budget)));
  print_out("\n");
  for (Settings& model : models) {
    const std::string name = resolve(model, true).architecture->name();
    const auto row = [&](const std::string& way, bool lean) {
      print_out("{:<16}{:<16}", name, way);
      for (const Column& c : columns) print_out("{:>26}", cell(model, c, lean));
      print_out("\n");
      flush_out();
    };
    model.lora = 0;
    row("all weights", false);
    row("leaner storage", true);
    model.lora = settings.lora != 0 ? settings.lora : kRank;
    row(fmt::format("--lora {}", model.lora), false);
  }
  print_out(
      "\ntokens: of a step of as many of 32 sequences as fit; /s: expected, {:.0f} % of what the card's datasheet allows, "
      "as an H200 reached\n"
      "leaner storage: --weights 16bit --moments 8bit --updates backward\n",
      100 * kReachedLeast);
}

}  // namespace neurogen

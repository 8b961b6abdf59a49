#include "tools/common/plan_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "arena/error.h"
#include "arena/report.h"
#include "engine/files/atomic_file.h"
#include "engine/run/leaner.h"
#include "engine/run/weights.h"
#include "tools/common/card.h"
#include "tools/common/decimal.h"
#include "tools/common/fine_tuning.h"
#include "tools/common/output.h"
#include "tools/common/outputs.h"
#include "tools/common/scale.h"
#include "tools/common/spelling.h"

namespace neurogen {
namespace {

struct PlanSettings {
  std::string program;
  Settings common;
  std::string card, init;
  bool json = false, fit = false, fine_tune = false;
  std::string svg;
  std::vector<std::string> compare;
};

CLI::Option* add_plan_settings(CLI::App& app, PlanSettings& s) {
  add_settings(app, s.common);
  add_accumulate(app, s.common);
  add_gpus(app, s.common.ranks);
  app.add_option("--init", s.init, "plan for training that starts from these weights, without reading them")->type_name("DIR|FILE");
  app.add_option("--card", s.card,
                 "plan for another machine's card, with its memory as the budget, and estimate its speed: gtx1650, rtx3060, h200 "
                 "or another of schemas/cards.json, or FILE.json")
      ->type_name("CARD|FILE.json");
  app.add_flag("--snapshot", s.common.snapshot, "include the memory of train --snapshot");
  return app.get_option("--budget");
}

// Resolved settings, their plan, and the card's speed.
struct Planned {
  Planned(const PlanSettings& s, bool budget_given) {
    Settings settings = s.common;
    std::optional<WeightFile> init;
    if (!s.init.empty()) init.emplace(s.init).adopt(settings);
    if (!s.card.empty()) plan_for(card.emplace(read_card(s.card)), budget_given, settings);
    resolved = resolve(settings, true);
    if (init) init->check(*resolved.architecture);
    if (s.fit) resolved.architecture = largest_like(resolved);
    fit = neurogen::fit(resolved);
  }
  double tokens() const { return static_cast<double>(fit.model.options.step_tokens()); }
  double roofline() const { return tokens() / roofline_seconds(*card, fit.model); }  // tokens/s, with a card

  std::optional<Card> card;
  Resolved resolved;
  Fit fit;
};

void print_speed(const Planned& p) {
  const Card& card = *p.card;
  const double most = p.roofline();
  print_out("\n{}: {:.4g} GB/s, {:.4g} TFLOP/s in {}; {} of its {} used for the plan\n", card.title, card.bytes_per_s / 1e9,
            card.flops_per_s(p.fit.model.options.compute) / 1e12, name_of(p.fit.model.options.compute),
            human(p.resolved.budget.bytes), human(card.memory));
  print_out(
      "at most {:.0f} tokens/s by its datasheet (a step of {:.1f} ms): every operand moved once, no time between operations\n",
      most, p.tokens() / most * 1e3);
  print_out("expected {:.0f} to {:.0f} tokens/s: the only card measured, an H200, reached {:.0f} to {:.0f} % of that\n",
            most * kReachedLeast, most * kReachedMost, 100 * kReachedLeast, 100 * kReachedMost);
  if (!card.source.empty()) print_out("figures: {}\n", card.source);
}

// What each leaner way of storage would take off this plan.
void print_savings(const Planned& p) {
  std::string text;
  for (const Leaner& way : leaner(p.fit.model.options)) {
    StepOptions options = p.fit.model.options;
    way.apply(options);
    const Bytes before = p.fit.plan.total(),
                after = planned(build_training(p.resolved.architecture, options), p.resolved.budget).plan.total();
    if (after < before) text += fmt::format("{} {} saves {}\n", option_of(way.field), way.value, human(before - after));
  }
  if (!text.empty()) print_out("\n{}", text);
}

// Prints the plan's JSON object, extended by the architecture (--fit) and the card (--card).
void print_json(const PlanSettings& s, const Planned& p, const ReportFacts& facts) {
  auto out = nlohmann::ordered_json::parse(plan_json(p.fit.plan, facts));
  if (s.fit) out["architecture"] = nlohmann::ordered_json::parse(p.resolved.architecture->json());
  if (p.card) {
    const double most = p.roofline();
    out["card"] = {{"title", p.card->title},
                   {"source", p.card->source},
                   {"memory_bytes", p.card->memory},
                   {"roofline_tokens_per_s", most},
                   {"expected_tokens_per_s", {most * kReachedLeast, most * kReachedMost}}};
  }
  print_out("{}\n", out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

// Plans one side of --compare, such as "small --batch 8": an architecture, and settings that replace the common ones.
Planned side(const PlanSettings& s, const std::string& words, bool budget_given) {
  PlanSettings own = s;
  CLI::App app;
  const CLI::Option* budget = add_plan_settings(app, own);
  take_decimal_numbers(app);
  try {
    app.parse(words.starts_with("--") ? words : "--arch " + words);
  } catch (const CLI::ParseError& error) {
    throw Error(fmt::format("--compare \"{}\": {}: give an architecture and options of plan, in quotes", words, error.what()));
  }
  return Planned(own, budget_given || budget->count() > 0);
}

// "157,696", empty if the family has no such number.
std::string count_of(const Architecture& architecture, const std::string& name) {
  for (const Count& count : architecture.counts()) {
    if (count.name == name) return with_commas(static_cast<Bytes>(count.value));
  }
  return "";
}

int compare(const PlanSettings& s, bool budget_given) {
  const Planned sides[] = {side(s, s.compare[0], budget_given), side(s, s.compare[1], budget_given)};
  const auto row = [&](const char* what, auto&& value) {
    print_out("{:<28}{:>24}{:>24}\n", what, value(sides[0]), value(sides[1]));
  };
  const auto bytes = [&](const char* what, auto&& value) { row(what, [&](const Planned& p) { return with_commas(value(p)); }); };
  std::set<std::string> shown;
  row("", [](const Planned& p) { return p.resolved.architecture->name(); });
  for (const Planned& p : sides) {  // both families' counts, each once
    for (const Count& count : p.resolved.architecture->counts()) {
      if (!shown.insert(count.name).second) continue;
      row(count.name, [&](const Planned& q) { return count_of(*q.resolved.architecture, count.name); });
    }
  }
  bytes("weights", [](const Planned& p) { return static_cast<Bytes>(p.resolved.architecture->weights()); });
  row("step", [](const Planned& p) {
    const StepOptions& o = p.fit.model.options;
    return fmt::format("{}{}{} x {}", o.ranks > 1 ? fmt::format("{} x ", o.ranks) : "",
                       o.accumulate > 1 ? fmt::format("{} x ", o.accumulate) : "", o.batch, o.window);
  });
  row("computes in, decoder in", [](const Planned& p) {
    return fmt::format("{}, {}", name_of(p.fit.model.options.compute), name_of(p.fit.model.options.decoder_storage));
  });
  row("schedule", [](const Planned& p) { return describe(p.fit.model.options.schedule, p.resolved.architecture->blocks()); });
  row("logits", [](const Planned& p) { return describe_logits(*p.resolved.architecture, p.fit.model.options); });
  bytes("persistent bytes", [](const Planned& p) { return p.fit.plan.device.persistent; });
  bytes("device arena", [](const Planned& p) { return p.fit.plan.device.bytes; });
  bytes("host arena", [](const Planned& p) { return p.fit.plan.host.bytes; });
  bytes("overhead", [](const Planned& p) { return p.fit.plan.overhead; });
  bytes("snapshot", [](const Planned& p) { return p.fit.plan.snapshot_bytes(); });
  bytes("total", [](const Planned& p) { return p.fit.plan.total(); });
  bytes("budget", [](const Planned& p) { return p.fit.plan.budget; });
  row("fits", [](const Planned& p) { return std::string(p.fit.fits() ? "yes" : "no"); });
  bytes("minimum budget", [](const Planned& p) { return p.fit.minimum; });
  row("at most tokens/s", [](const Planned& p) { return p.card ? fmt::format("{:.0f}", p.roofline()) : "(needs --card)"; });
  return 0;
}

int plan(const PlanSettings& s, bool budget_given) {
  check_outputs({{"", s.common.architecture}, {"", s.card}, {"", s.init}}, {{"--svg", s.svg}});
  if (!s.compare.empty()) return compare(s, budget_given);
  if (s.fine_tune) return print_fine_tuning(s.common, s.init, s.card, budget_given), 0;
  const Planned p(s, budget_given);
  const ReportFacts facts = facts_of(p.resolved, p.fit);
  if (!s.svg.empty()) {
    AtomicFile file(s.svg);
    file.write(plan_svg(p.fit.plan, facts));
    file.commit();
  }
  if (s.json) print_json(s, p, facts);
  if (!p.fit.fits()) return refuse(s.program, p.resolved, p.fit);
  if (s.json) return 0;
  print_out("{}", plan_table(p.fit.plan, facts));
  print_savings(p);
  if (p.card) print_speed(p);
  if (s.fit) {
    const Count size = p.resolved.architecture->counts().front();
    print_out("\n{} {}; the architecture, to be saved as FILE.json for --arch FILE.json:\n{}\n",
              with_commas(static_cast<Bytes>(size.value)), size.name, p.resolved.architecture->json());
  }
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, int& status) {
  auto s = std::make_shared<PlanSettings>();
  s->program = (app.get_parent() ? app.get_parent() : &app)->get_name();
  const CLI::Option* budget = add_plan_settings(app, *s);
  app.add_flag("--json", s->json, "print one JSON object instead of the table");
  app.add_option("--svg", s->svg, "also write a memory map: operations across, addresses up");
  app.add_flag(
      "--fine-tune", s->fine_tune,
      "a table of what can be fine-tuned on which card: with all weights, with leaner storage, by adapters; of usual models "
      "and cards, or of --arch or --init, --card");
  app.add_flag("--fit", s->fit, "plan the largest model of the architecture's proportions that fits");
  app.add_option("--compare", s->compare,
                 "plan two architectures side by side, each with its own options: small \"small --batch 8\"")
      ->expected(2);
  app.callback([s, budget, &status] { status = plan(*s, budget->count() > 0); });
}

}  // namespace neurogen

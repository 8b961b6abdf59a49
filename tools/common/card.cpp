#include "tools/common/card.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"
#include "arena/gpu_errors.h"
#include "embedded/cards.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"

namespace neurogen {
namespace {

using nlohmann::json;

constexpr int kLevels = 2;  // nesting: an object of numbers and strings

double positive(const json& from, const std::string& where, const char* field) {
  if (!from.contains(field)) throw Error(fmt::format("{} has no {}: add it as in schemas/cards.json", where, field));
  const json& value = from[field];
  if (!value.is_number() || !(value > 0) || !(value <= 1e18)) {
    throw Error(fmt::format("{}: {} is {}: use a positive number", where, field, value.dump()));
  }
  return value;
}

Card card_of(const json& from, const std::string& where) {
  if (!from.is_object()) throw Error(where + " holds no JSON object: write one as in schemas/cards.json");
  const auto text = [&](const char* field) {
    return from.contains(field) && from[field].is_string() ? from[field].get<std::string>() : "";
  };
  return {text("name"),
          text("title"),
          text("source"),
          static_cast<int>(std::min(positive(from, where, "capability"), 1e6)),
          static_cast<int>(std::min(positive(from, where, "multiprocessors"), 1e6)),
          from.value("nvlink", json()) == true,
          static_cast<Bytes>(positive(from, where, "memory_bytes")),
          positive(from, where, "bytes_per_s"),
          positive(from, where, "f32_flops_per_s"),
          positive(from, where, "half_flops_per_s")};
}

}  // namespace

std::vector<std::string> card_names() {
  std::vector<std::string> names;
  for (const json& entry : json::parse(embedded_cards)) names.push_back(entry["name"]);
  return names;
}

Card read_card(const std::string& name) {
  for (const json& entry : json::parse(embedded_cards)) {
    if (entry["name"] == name) return card_of(entry, name);
  }
  if (!name.ends_with(".json"))
    throw Error(fmt::format("--card is \"{}\": use {}, or a file FILE.json", name, fmt::join(card_names(), ", ")));
  const MappedFile file(name);
  const json parsed = parse_json(file.text(), kLevels, name);
  if (parsed.is_discarded()) throw Error(name + " is not JSON: write an object as in schemas/cards.json");
  Card card = card_of(parsed, name);
  if (card.title.empty()) card.title = name;
  return card;
}

void plan_for(const Card& card, bool budget_given, Settings& settings) {
  require_capability(card.title, card.capability, true);
  settings.device = Device::cuda;
  settings.card = {card.capability >= 80, card.multiprocessors, card.nvlink};
  if (!budget_given) settings.budget = card.usable();
}

double floor_seconds(const Operation& operation, double bytes_per_s, double flops_per_s) {
  return std::max(operation.cost.bytes / bytes_per_s, operation.cost.flops / flops_per_s);
}

double roofline_seconds(const Card& card, const Model& model) {
  const auto sum = [&](Graph::Range range) {
    double seconds = 0;
    for (std::size_t o = range.begin; o < range.end; ++o)
      seconds += floor_seconds(model.graph.operations()[o], card.bytes_per_s, card.flops_per_s(model.options.compute));
    return seconds;
  };
  return static_cast<double>(model.options.accumulate) * sum(model.programs.train) + sum(model.programs.end_step);
}

}  // namespace neurogen

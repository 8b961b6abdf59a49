// Graphics cards of other machines: how much fits on one, and an upper bound on the speed of a step there.
#pragma once
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "tools/common/settings.h"

namespace neurogen {

struct Card {
  std::string name, title, source;  // source: origin of the figures
  int capability = 0, multiprocessors = 0;
  bool nvlink = false;  // connects several of them
  Bytes memory = 0;
  double bytes_per_s = 0, f32_flops_per_s = 0;
  double half_flops_per_s = 0;  // dense bf16 with float32 sums; fp16 before capability 8.0

  // The driver and a display keep about 5 % of its memory.
  Bytes usable() const { return memory / 20 * 19; }
  double flops_per_s(DType compute) const { return compute == DType::f32 ? f32_flops_per_s : half_flops_per_s; }
};

// Reads a card from the table schemas/cards.json, or from a file with one such object. Throws Error that names what is wrong.
Card read_card(const std::string& name_or_file);
std::vector<std::string> card_names();  // in the table

// Sets up a step on this card; its memory is the budget unless `budget_given`. Throws Error for a card that is too old.
void plan_for(const Card& card, bool budget_given, Settings& settings);

// The least time of an operation: that of moving its bytes or of computing its products, whichever is longer.
double floor_seconds(const Operation& operation, double bytes_per_s, double flops_per_s);
// The sum of floor_seconds over a training step (Williams, Waterman & Patterson 2009, "Roofline") by the card's datasheet: every
// operand moves once, nothing overlaps, no time passes between operations.
double roofline_seconds(const Card& card, const Model& model);

// Share of its roofline that the only card measured, an H200, reached in full and small (docs/history.md, e840bdb: 302,596 to
// 310,762 and 960,092 to 960,182 tokens/s; other H200s 7 % less). Memory-bound cards should come closer: products, whose rate falls
// furthest below the datasheet's, weigh less there.
inline constexpr double kReachedLeast = 0.59, kReachedMost = 0.65;

}  // namespace neurogen

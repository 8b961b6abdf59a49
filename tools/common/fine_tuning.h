// A table of what fits: which pretrained models can be fine-tuned in which way on which card.
#pragma once
#include <string>

#include "tools/common/settings.h"

namespace neurogen {

// Prints a row for each model and way to fine-tune it: with all weights, with leaner storage of what AdamW updates, by adapters;
// and a column for each card: the tokens of a step and the expected tokens/s, or the budget that it needs. Models and cards are
// some usual ones unless the settings name an architecture, `init` weights and `card` a card.
void print_fine_tuning(const Settings& settings, const std::string& init, const std::string& card, bool budget_given);

}  // namespace neurogen

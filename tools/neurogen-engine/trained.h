// A trained brain from a file of weights (`train --export`).
#pragma once
#include <string>

#include "engine/files/tokenizer.h"
#include "tools/common/settings.h"

namespace neurogen {

// Where --arch is automatic, settings take the architecture that the weights were exported with. Throws Error if they do not
// say, and if they were trained with another tokenizer than this one (may be null).
void adopt_weights(Settings& settings, const std::string& weights, const Tokenizer* tokenizer);

}  // namespace neurogen

// Filling a batch: from a text to the host arena's slot.
#pragma once
#include "engine/brain/brain.h"
#include "engine/files/tokens.h"
#include "engine/graph/program.h"

namespace neurogen {

// Sequence `sequence` of the batch: `length` tokens of the text from `begin` on, and their successors as targets. The rest of
// the window is filled with token 0 that nothing is asked about (target -1). Allocates nothing unless it throws: an Error for
// tokens at or above the vocabulary.
void fill_sequence(const Brain& brain, const Program& program, const Tokens& text, std::int64_t sequence, std::int64_t begin,
                   std::int64_t length);

}  // namespace neurogen

// Clips by the norm of all gradients but that of a decoder under Adafactor, and updates: matrices by Muon, tables by row-wise
// RMSProp, the rest by AdamW.
#pragma once
#include "engine/model/assembly.h"

namespace neurogen {

// Declares the optimizer's state of every parameter but a decoder under Adafactor.
void declare_moments(Assembly& assembly);
// In a step of several micro-batches: adds the gradients of one to their means, which become Parameter::gradient. That of a decoder
// under Adafactor is the head's.
void collect_gradients(Assembly& assembly);
// Adds the operations, after all gradients of the trunk.
void add_update(Assembly& assembly);

}  // namespace neurogen

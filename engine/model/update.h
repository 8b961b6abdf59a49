// Clips by the norm of all gradients but that of a decoder under Adafactor, and updates: matrices by Muon, tables by row-wise
// RMSProp, the rest by AdamW. Several ranks share out the matrices (Parameter::owner).
//
// With early updates, parameters that are known together, such as a block's, are clipped and updated at once, and their gradients
// need not live on. The norm of all is not known then: each group's is held to its share of the limit, clip sqrt(its numbers / all
// numbers), so that the norm of all stays within it. If a group overflows under a loss scale (kernels/loss_scale.h), it and those
// after it are not updated.
#pragma once
#include "engine/model/assembly.h"

namespace neurogen {

// Declares the optimizer's state of every parameter but a decoder under Adafactor.
void declare_moments(Assembly& assembly);
// In a step of several micro-batches: adds the gradients of one to their means, which become Parameter::gradient. That of a decoder
// under Adafactor is the head's.
void collect_gradients(Assembly& assembly);
// With early updates: adds the update of all parameters that have gained a gradient since the last call. No later operation of the
// backward pass may read them.
void update_known(Assembly& assembly);
// Adds the operations, after all gradients of the trunk.
void add_update(Assembly& assembly);

}  // namespace neurogen

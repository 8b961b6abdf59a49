// Clips by the norm of all gradients but that of a decoder under Adafactor, and updates: matrices by Muon, tables by row-wise
// RMSProp, the rest by AdamW.
//
// With early updates, parameters that are known together, such as a block's, are clipped and updated at once, and their gradients
// need not live on. The norm of all is not known then: each group's is held to its share of the limit, clip sqrt(its numbers / all
// numbers), so that the norm of all stays within it. If a group overflows under a loss scale (kernels/loss_scale.h), it and those
// after it are not updated.
#pragma once
#include <vector>

#include "engine/model/assembly.h"

namespace neurogen {

// Declares the optimizer's state of every parameter but a decoder under Adafactor.
void declare_moments(Assembly& assembly);
// In a step of several micro-batches: adds the gradients of one to their means, which become Parameter::gradient. That of a decoder
// under Adafactor is the head's.
void collect_gradients(Assembly& assembly);
// Called where parameters, such as a block's, have gained their gradients, which nothing changes any more. With several ranks it
// begins to sum them; with early updates it adds the update, and no later operation of the backward pass may read the parameters.
// `which`: these gradients; empty: all that there are.
void gradients_known(Assembly& assembly, const std::vector<TensorId>& which = {});
// Adds the operations, after all gradients of the trunk.
void add_update(Assembly& assembly);

}  // namespace neurogen

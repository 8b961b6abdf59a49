// Training on a rank that does not lead: the same steps, no output.
#pragma once
#include "tools/neurogen-engine/ranks.h"
#include "tools/neurogen-engine/train_settings.h"

namespace neurogen {

// Makes the steps that rank 0 orders, from step `first` on, until the last. All must outlive the call. Allocates nothing from the
// first step on. Throws Error as TrainingRun::train does.
void follow(const TrainSettings& settings, Session& session, const Texts& texts, std::int64_t first, Ranks& ranks);

}  // namespace neurogen

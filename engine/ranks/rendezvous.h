// How ranks that a launcher has started find each other, by TCP.
#pragma once
#include <chrono>
#include <string>

#include "engine/ranks/links.h"

namespace neurogen {

// This rank was told why it ends, or rank 0 says why: it ends with this status, in silence.
struct Dismissed {
  int status;
};

// Connects this rank with the others: rank 0 listens at the launch's address and port, the others come there. All must have come
// within `limit` and be of the same `version`. Strangers that connect are ignored. Throws Error, on rank 0 for all that have come,
// which then throw Dismissed; and Error on a rank that does not find rank 0.
Joined meet(const Launch& launch, std::chrono::milliseconds limit, const std::string& version);

}  // namespace neurogen

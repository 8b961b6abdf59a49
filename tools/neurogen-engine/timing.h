// Times training steps and their operations on random tokens.
#pragma once
#include <string>
#include <vector>

#include "engine/run/session.h"
#include "tools/neurogen-engine/limits.h"

namespace neurogen {

// Operations whose names differ only in digits, or a sum of several families.
struct OperationTimes {
  std::string name;
  std::int64_t count = 0;
  double seconds = 0, floor = 0, flops = 0, bytes = 0;
  OperationTimes& operator+=(const OperationTimes& other) {
    count += other.count, seconds += other.seconds, floor += other.floor, flops += other.flops, bytes += other.bytes;
    return *this;
  }
};

// Fills the batch with random tokens, different for every index.
void random_batch(const Session& session, std::uint64_t index);
// Runs step `i` on the batch as it is, in each micro-batch. Returns the seconds that the device worked. Allocates nothing.
double run_step(Session& session, std::int64_t i);
// Runs step `i` on random tokens.
double training_step(Session& session, std::int64_t i);

// Times every operation within whole steps: the mean of `repeats` after a warm-up, the longest first. An operation's floor is the
// least time for its bytes or its products, whichever is longer.
std::vector<OperationTimes> time_operations(Session& session, const Limits& limits, std::int64_t repeats);

}  // namespace neurogen

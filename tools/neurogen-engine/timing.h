// Timing training steps and their operations, on random tokens.
#pragma once
#include <string>
#include <vector>

#include "engine/run/session.h"
#include "tools/neurogen-engine/limits.h"

namespace neurogen {

// Operations whose names differ only in digits, or a sum of such.
struct Family {
  std::string name;
  std::int64_t count = 0;
  double seconds = 0, floor = 0, flops = 0, bytes = 0;
  Family& operator+=(const Family& other) {
    count += other.count, seconds += other.seconds, floor += other.floor, flops += other.flops, bytes += other.bytes;
    return *this;
  }
};

// Fills the batch; every index has tokens of its own.
void random_batch(const Session& session, std::uint64_t index);
// Step `i` on whatever the batch holds; `train` is the program's range. Returns the seconds that the device worked, allocates
// nothing.
double run_step(Session& session, Graph::Range train, std::int64_t i);
// The same on random tokens.
double training_step(Session& session, std::int64_t i);

// The time of every operation within a whole step, the mean of `repeats` after one that is not counted; the longest first. The
// floor of an operation is the time in which the machine could move its bytes or compute its products, whichever is longer.
std::vector<Family> time_operations(Session& session, const Limits& limits, std::int64_t repeats);

}  // namespace neurogen

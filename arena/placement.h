// Places transient buffers: interval colouring with sizes, which is NP-complete, so several greedy orders are tried and the lowest
// result wins. Greedy by size after Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020
// (arXiv:2001.03288), section 4.
#pragma once
#include <string>
#include <vector>

#include "arena/bytes.h"

namespace neurogen {

struct Interval {
  Bytes size = 0;                    // a multiple of kAlignment
  std::int64_t first = 0, last = 0;  // first and last operation at which it is alive, both inclusive
};

struct Placement {
  std::vector<Bytes> offsets;  // one per interval, from 0
  Bytes height = 0;            // the largest offset + size
  std::string order;           // the winning order
};

// The result of one order, for the report on the planner's quality.
struct OrderResult {
  std::string order;
  Bytes height = 0;
};

// The largest sum of sizes alive at one operation; `at` (optional) receives the first such operation.
Bytes lower_bound(const std::vector<Interval>& intervals, std::int64_t* at = nullptr);

// Tries every order and keeps the lowest; stops early at the lower bound. Ties go to the earlier order, and equal intervals keep
// their order, so every compiler gives the same result. `tried` (optional) receives each order's result, without variations.
Placement place(const std::vector<Interval>& intervals, std::vector<OrderResult>* tried = nullptr);

}  // namespace neurogen

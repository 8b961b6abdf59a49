// Attributes heap allocations to the engine that made them, in a process that holds several engines and much else. A library that
// is linked with engine/api/allocations.cpp counts its calls; in any other program nothing counts.
#pragma once
#include <atomic>
#include <cstdint>

namespace neurogen {

using AllocationAccount = std::atomic<std::uint64_t>;

// The account of this thread's work; a thread that an engine starts inherits the engine's. Defined in one place, so that all shared
// libraries of a process mean the same variable.
extern constinit thread_local AllocationAccount* allocation_account;

// While alive, charges what this thread allocates to an account.
class ChargeAllocations {
 public:
  explicit ChargeAllocations(AllocationAccount* account) : before_(allocation_account) { allocation_account = account; }
  ~ChargeAllocations() { allocation_account = before_; }
  ChargeAllocations(const ChargeAllocations&) = delete;
  ChargeAllocations& operator=(const ChargeAllocations&) = delete;

 private:
  AllocationAccount* before_;
};

}  // namespace neurogen

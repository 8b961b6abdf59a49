// Charges heap allocations to the engine that made them, since a process may hold several engines and other code. Only a library
// that links engine/api/allocations.cpp counts; in any other program nothing is counted.
#pragma once
#include <atomic>
#include <cstdint>

namespace neurogen {

using AllocationAccount = std::atomic<std::uint64_t>;

// This thread's account; threads started by an engine inherit the engine's. Defined in one place, so that all shared libraries of a
// process share the variable.
extern constinit thread_local AllocationAccount* allocation_account;

// While alive, charges this thread's allocations to an account.
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

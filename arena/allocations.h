// Whose allocations are whose, in a process that holds several engines and much else. Calls are counted where they are made by
// what was linked to count them (engine/api/allocations.cpp); a program without that counts nothing here.
#pragma once
#include <atomic>
#include <cstdint>

namespace neurogen {

using AllocationAccount = std::atomic<std::uint64_t>;

// What this thread works for; a thread that an engine starts works for the engine.
inline constinit thread_local AllocationAccount* allocation_account = nullptr;

// While one lives, what this thread allocates is charged to an account.
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

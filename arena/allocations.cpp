#include "arena/allocations.h"

namespace neurogen {

constinit thread_local AllocationAccount* allocation_account = nullptr;

}  // namespace neurogen

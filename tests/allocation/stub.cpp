// Stands in for a library whose name the heap knows, and allocates.
#include <cstdlib>

extern "C" void* allocate(std::size_t bytes) {
  void* volatile block = std::malloc(bytes);  // volatile: prevents a tail call, which would make the allocation its caller's
  return block;
}

// Stands in for a library of which the heap knows the name: it allocates.
#include <cstdlib>

extern "C" void* allocate(std::size_t bytes) {
  void* volatile block = std::malloc(bytes);  // volatile: not as its last act, which would make the call its caller's
  return block;
}

// A library of the name that a GPU's driver has, which allocates.
#include <cstdlib>

extern "C" void* allocate(std::size_t bytes) {
  void* volatile block = std::malloc(bytes);  // volatile: not as its last act, which would make the call its caller's
  return block;
}

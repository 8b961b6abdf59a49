// Turns exceptions, which stay inside the library, into its results.
#pragma once
#include <exception>

#include "neurogen/result.h"

namespace neurogen {

Failure failure_of(const std::exception_ptr& thrown);

// Returns the value of `body`, or its failure.
template <typename Value, typename Body>
Result<Value> answer(Body&& body) noexcept {
  try {
    return body();
  } catch (...) {
    return failure_of(std::current_exception());
  }
}

}  // namespace neurogen

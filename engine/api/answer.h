// From exceptions, which stay inside the library, to its results.
#pragma once
#include <exception>

#include "engine/api/neurogen/result.h"

namespace neurogen {

// Sentences speak of options as the command line has them; here they are fields: --decoder-tile is decoder_tile.
Failure failure_of(const std::exception_ptr& thrown);

// What `body` returns, or why it could not.
template <typename Value, typename Body>
Result<Value> answer(Body&& body) noexcept {
  try {
    return body();
  } catch (...) {
    return failure_of(std::current_exception());
  }
}

}  // namespace neurogen

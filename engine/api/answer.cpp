#include "engine/api/answer.h"

#include <fmt/format.h>

#include <new>

#include "arena/error.h"

namespace neurogen {

Failure failure_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& error) {
    return {error.what(), error.status() == Error::kMisuse, error.field()};
  } catch (const std::bad_alloc&) {
    return {"out of memory: close other programs, or use a smaller budget", false, "budget"};
  } catch (const std::exception& error) {
    return {fmt::format("{}: this should not happen, please report it", error.what()), false, ""};
  }
}

}  // namespace neurogen

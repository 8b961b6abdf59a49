#include "kernels/base/dispatch.h"
#include "kernels/documents.h"

namespace neurogen {

void documents(CpuDevice& device, const Documents& a) {
  require(a.window > 0 && a.ids[0] % a.window == 0, "documents: the tokens must be whole windows");
  device.parallel(a.ids[0] / a.window, [&](std::int64_t window, int) {
    const std::int32_t* ids = a.ids.as<const std::int32_t>() + window * a.window;
    std::int32_t* first = a.first.as<std::int32_t>() + window * a.window;
    std::int64_t start = 0;
    for (std::int64_t t = 0; t < a.window; ++t) {
      first[t] = static_cast<std::int32_t>(start);
      if (ids[t] == a.document_end) start = t + 1;
    }
  });
}

}  // namespace neurogen

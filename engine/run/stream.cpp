#include "engine/run/stream.h"

namespace neurogen {

Stream::Stream(const Brain& brain, Program& program) : brain_(brain), program_(program), range_(brain.graph.program("step")) {
  reset();
}

void Stream::reset() {
  for (TensorId id : brain_.state) program_.clear(id);
  position_ = 0;
  document_ended_ = false;
}

TensorView Stream::step(std::int32_t token) {
  if (document_ended_) reset();
  *program_.view(brain_.host_token).as<std::int32_t>() = token;
  auto* position = program_.view(brain_.host_position).as<std::int64_t>();
  position[0] = position_++;
  position[1] = 0;
  program_.run(range_);
  document_ended_ = token == brain_.options.document_end;
  return program_.view(brain_.host_logits);
}

}  // namespace neurogen

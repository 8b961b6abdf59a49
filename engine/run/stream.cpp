#include "engine/run/stream.h"

#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {

Stream::Stream(const Model& model, Program& program) : model_(model), program_(program), range_(model.programs.step) { reset(); }

void Stream::reset() {
  for (TensorId id : model_.state) program_.clear(id);
  position_ = 0;
  document_ended_ = false;
}

TensorView Stream::step(std::int32_t token) {
  if (document_ended_) reset();
  if (const std::int64_t most = model_.architecture->context(); position_ >= most) {
    throw Error(fmt::format("the text is longer than the {} positions that {} knows: start a new one, or use fewer tokens", most,
                            model_.architecture->name()));
  }
  *program_.view(model_.ports.token).as<std::int32_t>() = token;
  auto* position = program_.view(model_.ports.position).as<std::int64_t>();
  position[0] = position_++;
  position[1] = 0;
  program_.run(range_);
  document_ended_ = token == model_.options.document_end;
  return program_.view(model_.ports.logits);
}

}  // namespace neurogen

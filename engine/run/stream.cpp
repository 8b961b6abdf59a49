#include "engine/run/stream.h"

#include <fmt/format.h>

#include <algorithm>

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
  const TensorView logits = step(std::span(&token, 1));
  document_ended_ = token == model_.options.document_end;
  return logits.reshaped({logits.elements()});
}

TensorView Stream::step(std::span<const std::int32_t> tokens) {
  if (const std::int64_t most = positions(); position_ >= most) {
    throw Error(fmt::format("the text is longer than the {} positions that {} knows: start a new one, or use fewer tokens", most,
                            model_.architecture->name()));
  }
  std::copy(tokens.begin(), tokens.end(), program_.view(model_.ports.token).as<std::int32_t>());
  auto* position = program_.view(model_.ports.position).as<std::int64_t>();
  position[0] = position_++;
  position[1] = 0;
  program_.run(range_);
  return program_.view(model_.ports.logits);
}

}  // namespace neurogen

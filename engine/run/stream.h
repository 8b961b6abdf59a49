// Runs a model one token (of each of several texts) at a time, with memory (Model::state), such as a ring of keys and values,
// instead of a window.
#pragma once
#include <span>

#include "engine/graph/program.h"
#include "engine/model/model.h"

namespace neurogen {

class Stream {
 public:
  // `model` has a program "step"; both must outlive the stream. Starts with empty memory.
  Stream(const Model& model, Program& program);

  void reset();
  std::int64_t positions() const { return model_.architecture->context(); }  // that a document can have
  // Feeds one token and returns the logits of the next, [V], valid until the next call. Allocates nothing. The token that ends a
  // document (options.document_end) is still part of it; the memory is cleared before the token after it. Throws Error if a
  // document is longer than Architecture::context().
  TensorView step(std::int32_t token);
  // The same for as many texts as options.streams says, all of one length so far: a token of each. Returns their logits, [streams,
  // V]. A text whose document has ended goes on as if it had not: its logits mean nothing until reset().
  TensorView step(std::span<const std::int32_t> tokens);

 private:
  const Model& model_;
  Program& program_;
  Graph::Range range_;
  std::int64_t position_ = 0;
  bool document_ended_ = false;
};

}  // namespace neurogen

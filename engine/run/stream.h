// One token at a time: a brain that remembers by its recurrent state and a ring of keys and values, not by a window.
#pragma once
#include <span>

#include "engine/brain/brain.h"
#include "engine/graph/program.h"

namespace neurogen {

class Stream {
 public:
  // A program of build_stream; both must outlive the stream. Starts with an empty memory.
  Stream(const Brain& brain, Program& program);

  void reset();
  // Takes one token, returns the logits of the next, [V], valid until the next call. Allocates nothing.
  // The token that ends a document (options.document_end) is still part of it; what follows starts with an empty memory.
  TensorView step(std::int32_t token);

 private:
  const Brain& brain_;
  Program& program_;
  Graph::Range range_;
  std::int64_t position_ = 0;
  bool document_ended_ = false;
};

}  // namespace neurogen

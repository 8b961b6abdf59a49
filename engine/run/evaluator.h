// Measures how well a model predicts a text.
#pragma once
#include <cstdint>
#include <span>

#include "engine/data/tokens.h"
#include "engine/graph/program.h"
#include "engine/model/model.h"

namespace neurogen {

struct Evaluation {
  double loss = 0;                         // mean nats per token
  std::int64_t tokens = 0;                 // number predicted
  std::int64_t right = 0, among_five = 0;  // tokens predicted first, among the first five; only with build_evaluation
};

class Evaluator {
 public:
  // `model` from build_training or build_evaluation; both must outlive the evaluator.
  Evaluator(const Model& model, Program& program);

  // Every token but the first is predicted once, from the tokens before it in its window. At most the first `most_tokens` are
  // predicted, in whole windows, but at least one window. The text must hold two tokens. Allocates nothing.
  Evaluation run(const Tokens& text, std::int64_t most_tokens = INT64_MAX);
  Evaluation run(std::span<const std::int32_t> text);

 private:
  template <typename Text>
  Evaluation over(const Text& text, std::int64_t most_tokens);

  const Model& model_;
  Program& program_;
  Graph::Range range_;
};

}  // namespace neurogen

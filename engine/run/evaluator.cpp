#include "engine/run/evaluator.h"

#include <algorithm>

#include "engine/run/batch.h"

namespace neurogen {

Evaluator::Evaluator(const Model& model, Program& program) : model_(model), program_(program), range_(model.programs.evaluate) {}

Evaluation Evaluator::run(const Tokens& text, std::int64_t most_tokens) { return over(text, most_tokens); }
Evaluation Evaluator::run(std::span<const std::int32_t> text) { return over(TokenSpan{text}, INT64_MAX); }

template <typename Text>
Evaluation Evaluator::over(const Text& text, std::int64_t most_tokens) {
  const std::int64_t batch = model_.options.batch, window = model_.options.window, last = text.size() - 1;
  const std::int64_t count = std::min((last + window - 1) / window, std::max<std::int64_t>(1, most_tokens / window));
  Evaluation sum;
  for (std::int64_t first = 0; first < count; first += batch) {
    for (std::int64_t i = 0; i < batch; ++i) {
      const std::int64_t begin = std::min((first + i) * window, last);
      fill_sequence(model_, program_, text, i, begin, first + i < count ? std::min(window, last - begin) : 0);
    }
    program_.run(range_);
    const double* loss = program_.view(model_.ports.loss).as<const double>();
    sum.loss += loss[0];
    sum.tokens += static_cast<std::int64_t>(loss[1]);
    if (!model_.ports.hits) continue;
    const double* hits = program_.view(model_.ports.hits).as<const double>();
    sum.right += static_cast<std::int64_t>(hits[0]);
    sum.among_five += static_cast<std::int64_t>(hits[1]);
  }
  sum.loss /= static_cast<double>(std::max<std::int64_t>(sum.tokens, 1));
  return sum;
}

}  // namespace neurogen

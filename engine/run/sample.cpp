#include "engine/run/sample.h"

#include <algorithm>

namespace neurogen {
namespace {
constexpr std::int64_t kPrompt = 16, kMade = 32;
constexpr std::int64_t kMostPadding = 7;  // after a row of a tile's logits
}  // namespace

SampleWriter::SampleWriter(const Brain& brain, Program& program, const Tokens& text, const Sampling& sampling)
    : brain_(brain),
      program_(program),
      logits_(static_cast<std::size_t>(brain.architecture.vocabulary)),
      logits_view_(make_view(logits_.data(), DType::f32, {brain.architecture.vocabulary})),
      readout_(program, brain.options.vocabulary_tile + kMostPadding),
      sampling_(sampling),
      memory_(logits_.size(), DType::f32),
      sampler_(memory_.memory(), sampling) {
  const std::int64_t window = brain.options.window;
  prompt_ = static_cast<std::size_t>(std::min({kPrompt, text.size(), std::max<std::int64_t>(1, window / 2)}));
  tokens_.resize(std::min(prompt_ + static_cast<std::size_t>(kMade), static_cast<std::size_t>(window) + 1));
  text.read(0, {tokens_.data(), prompt_});
  const Graph& graph = brain.graph;
  Graph::Range rest = graph.program("evaluate");
  for (std::size_t o = rest.begin; o < rest.end; ++o) {
    const std::string& name = graph.operations()[o].name;
    if (!name.ends_with(".logits")) continue;
    tiles_.push_back({{rest.begin, o + 1}, find_tensor(graph, name)});
    rest.begin = o + 1;
  }
}

// Computes the logits of the token after the first `length` tokens, which are the first window of the batch.
void SampleWriter::logits_behind(std::size_t length) {
  const TensorView batch = program_.view(brain_.host_batch);
  const std::int64_t n = brain_.options.tokens();
  std::fill_n(batch.as<std::int32_t>(), n, 0);
  std::fill_n(batch.as<std::int32_t>() + n, n, -1);
  std::copy_n(tokens_.begin(), length, batch.as<std::int32_t>());
  auto to = logits_.begin();
  for (const Tile& tile : tiles_) {
    program_.run(tile.range);
    const std::span<const float> row = readout_.rows(tile.logits, static_cast<std::int64_t>(length) - 1, 1);
    to = std::copy_n(row.begin(), std::min<std::int64_t>(brain_.options.vocabulary_tile, logits_.end() - to), to);
  }
}

std::span<const std::int32_t> SampleWriter::write() {
  sampler_.use(sampling_);
  for (std::size_t length = prompt_; length < tokens_.size(); ++length) {
    logits_behind(length);
    tokens_[length] = sampler_.draw(logits_view_);
  }
  return std::span<const std::int32_t>(tokens_).subspan(prompt_);
}

}  // namespace neurogen

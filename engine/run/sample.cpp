#include "engine/run/sample.h"

#include <algorithm>
#include <cmath>

namespace neurogen {
namespace {
constexpr std::int64_t kPrompt = 16, kMade = 32;
constexpr std::int64_t kMostPadding = 7;  // after a row of a tile's logits
}  // namespace

SampleWriter::SampleWriter(const Model& model, Program& program, const Tokens& text, const Sampling& sampling)
    : model_(model),
      program_(program),
      logits_(static_cast<std::size_t>(model.architecture->vocabulary())),
      logits_view_(make_view(logits_.data(), DType::f32, {model.architecture->vocabulary()})),
      readout_(program, model.options.vocabulary_tile + kMostPadding),
      sampling_(sampling),
      memory_(logits_.size(), DType::f32),
      sampler_(memory_.memory(), sampling) {
  const std::int64_t window = model.options.window;
  prompt_ = static_cast<std::size_t>(std::min({kPrompt, text.size(), std::max<std::int64_t>(1, window / 2)}));
  tokens_.resize(std::min(prompt_ + static_cast<std::size_t>(kMade), static_cast<std::size_t>(window) + 1));
  text.read(0, {tokens_.data(), prompt_});
  std::size_t begin = model.programs.evaluate.begin;
  for (const LogitsTile& tile : model.logits_tiles) {
    program.prepare({begin, tile.end});
    begin = tile.end;
  }
}

// Computes the logits of the token after the first `length` tokens, which are the first window of the batch.
void SampleWriter::logits_behind(std::size_t length) {
  const TensorView batch = program_.view(model_.ports.batch);
  const std::int64_t n = model_.options.tokens();
  std::fill_n(batch.as<std::int32_t>(), n, 0);
  std::fill_n(batch.as<std::int32_t>() + n, n, -1);
  std::copy_n(tokens_.begin(), length, batch.as<std::int32_t>());
  auto to = logits_.begin();
  std::size_t begin = model_.programs.evaluate.begin;
  for (const LogitsTile& tile : model_.logits_tiles) {
    program_.run({begin, tile.end});
    begin = tile.end;
    const std::span<const float> row = readout_.rows(tile.logits, static_cast<std::int64_t>(length) - 1, 1);
    to = std::copy_n(row.begin(), tile.tokens, to);
  }
  if (const auto cap = static_cast<float>(model_.architecture->softcap()); cap > 0) {  // the loss caps them as it reads them
    for (float& logit : logits_) logit = cap * std::tanh(logit / cap);
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

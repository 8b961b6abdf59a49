#include "engine/data/draws.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"
#include "engine/data/shuffle.h"

namespace neurogen {
namespace {
// Element `index` of an endless sequence of shuffled passes over [0, things).
std::int64_t shuffled(std::int64_t things, std::uint64_t seed, std::int64_t index) {
  const Shuffle order(static_cast<std::uint64_t>(things), seed, static_cast<std::uint64_t>(index / things));
  return static_cast<std::int64_t>(order(static_cast<std::uint64_t>(index % things)));
}
}  // namespace

Draws::Draws(const Tokens& text, std::int64_t window, std::int64_t batch, std::uint64_t seed)
    : window_(window), batch_(batch), windows_(windows(text.size(), window)), seed_(seed) {
  if (!text.weights().empty()) windows_ = 0;
  for (std::size_t f = 0; f < text.weights().size(); ++f) {
    const Tokens::File file = text.file(f);
    const File drawn{file.begin, windows(file.tokens, window), text.weights()[f], weights_};
    if (drawn.windows == 0) {
      throw Error(
          {fmt::format("{} has {} tokens, a window needs {}: leave it out or use a shorter ", file.path, file.tokens, window + 1),
           Field("window")});
    }
    files_.push_back(drawn);
    windows_ += drawn.windows;
    weights_ += drawn.weight;
  }
  if (windows_ < batch) {
    throw Error({fmt::format("the training text has {} tokens, a batch of {} windows needs {}: use more text, a smaller ",
                             text.size(), batch, batch * window + 1),
                 Field("batch"), " or a shorter ", Field("window")});
  }
}

std::int64_t Draws::begin(std::int64_t step, std::int64_t i) const {
  if (files_.empty()) {
    const Shuffle order(static_cast<std::uint64_t>(windows_), seed_, static_cast<std::uint64_t>(step / steps_per_epoch()));
    return static_cast<std::int64_t>(order(static_cast<std::uint64_t>(step % steps_per_epoch() * batch_ + i))) * window_;
  }
  const std::int64_t draw = step * batch_ + i, place = shuffled(weights_, seed_, draw);
  const File& file = *std::prev(
      std::upper_bound(files_.begin(), files_.end(), place, [](std::int64_t p, const File& f) { return p < f.weights_before; }));
  const std::int64_t of_file = draw / weights_ * file.weight + place - file.weights_before;
  const auto number = static_cast<std::uint64_t>(&file - files_.data());
  return file.begin + shuffled(file.windows, seed_ + (number + 1) * 0x9E3779B97F4A7C15, of_file) * window_;
}

}  // namespace neurogen

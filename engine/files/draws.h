// Which windows of a text a run learns from, and in what order: computed on the fly from seed and step, in constant memory however
// large the corpus, so that a run which goes on needs to remember nothing.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/files/tokens.h"

namespace neurogen {

// Without weights: the windows of the whole text in a shuffled order, each once an epoch; the last (windows mod batch) of an epoch
// are left out.
//
// With weights w, one a file: of every sum(w) windows, in a shuffled order, w of each file's; each file's windows are shuffled by
// themselves and gone through at the file's own pace, again and again. An epoch is as many windows as
// all files have.
class Draws {
 public:
  // The text must outlive it. Throws Error where there is no whole batch, or no window in a file that has a weight.
  Draws(const Tokens& text, std::int64_t window, std::int64_t batch, std::uint64_t seed);

  std::int64_t steps_per_epoch() const { return windows_ / batch_; }
  // Position in the text where the window of sequence `i` of step `step` begins, both from 0. Allocates nothing.
  std::int64_t begin(std::int64_t step, std::int64_t i) const;

 private:
  struct File {
    std::int64_t begin, windows, weight, weights_before;
  };
  std::int64_t window_, batch_, windows_ = 0, weights_ = 0;
  std::uint64_t seed_;
  std::vector<File> files_;  // empty: no weights
};

}  // namespace neurogen

// The order in which training draws windows from a text: computed on the fly from seed and step, in constant memory, so that
// resuming needs no saved state.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/data/tokens.h"

namespace neurogen {

// Without weights: the windows of the whole text in shuffled order, each once per epoch; the last (windows mod batch) of an epoch
// are left out.
//
// With weights w, one per file: every sum(w) windows, in shuffled order, contain w of each file. Each file's windows are shuffled
// separately and repeat at the file's own pace. An epoch is as many windows as all files have together.
class Draws {
 public:
  // The text must outlive it. Throws Error if there is no whole batch, or no window in a weighted file.
  Draws(const Tokens& text, std::int64_t window, std::int64_t batch, std::uint64_t seed);

  std::int64_t steps_per_epoch() const { return windows_ / batch_; }
  // Start position in the text of the window for sequence `i` of step `step`, both from 0. Allocates nothing.
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

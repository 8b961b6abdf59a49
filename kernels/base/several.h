// Operands of one kind for an operation that takes them all at once, which saves a GPU one launch for each. Uses no heap, and is
// small enough to be a kernel's argument.
#pragma once
#include <algorithm>
#include <array>
#include <initializer_list>

#include "arena/error.h"

namespace neurogen {

inline constexpr int kMostSeveral = 40;

template <typename T>
class Several {
 public:
  Several() = default;
  Several(std::initializer_list<T> list) {
    for (const T& item : list) add(item);
  }
  void add(const T& item) {
    if (count_ == kMostSeveral) throw Error("an operation takes at most 40 tensors at once");
    items_[static_cast<std::size_t>(count_++)] = item;
  }
  const T* begin() const { return items_.data(); }
  const T* end() const { return items_.data() + count_; }

 private:
  std::array<T, kMostSeveral> items_{};
  int count_ = 0;
};

// For a list of any length: calls run(Several<T>) with make(item) of all items in order, kMostSeveral at a time.
template <typename T, typename List, typename Make, typename Run>
void in_lots(const List& list, Make&& make, Run&& run) {
  for (std::size_t begin = 0; begin < list.size(); begin += kMostSeveral) {
    Several<T> lot;
    for (std::size_t i = begin; i < std::min(list.size(), begin + kMostSeveral); ++i) lot.add(make(list[i]));
    run(lot);
  }
}

}  // namespace neurogen

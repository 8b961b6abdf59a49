// Operands of one kind for an operation that takes them all at once, which saves a GPU one launch for each. Uses no heap, and is
// small enough to be a kernel's argument.
#pragma once
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

}  // namespace neurogen

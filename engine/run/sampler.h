// From logits to a token.
#pragma once
#include <cstdint>
#include <vector>

#include "arena/tensor_view.h"

namespace neurogen {

class Sampler {
 public:
  // temperature 0: the likeliest token (the lowest id among equals). Equal seeds give equal tokens.
  Sampler(std::int64_t vocabulary, double temperature, std::uint64_t seed);

  // logits [V]. Allocates nothing.
  std::int32_t draw(const TensorView& logits);

  // Never draw this token.
  void ban(std::int32_t token) { banned_[static_cast<std::size_t>(token)] = true; }

 private:
  double temperature_;
  std::uint64_t seed_, drawn_ = 0;
  std::vector<double> weights_;
  std::vector<bool> banned_;
};

}  // namespace neurogen

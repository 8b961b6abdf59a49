#include "engine/brain/wiring.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/random.h"

namespace neurogen {

std::vector<std::int32_t> deal_wiring(const Module& module, std::uint64_t seed, std::uint64_t stream) {
  const std::int64_t per_group = module.blocks_per_group();
  std::vector<std::int32_t> wiring(static_cast<std::size_t>(module.groups() * per_group));
  std::vector<std::int32_t> deck;
  std::uint64_t drawn = 0;
  for (std::int64_t g = 0; g < module.groups(); ++g) {
    std::int32_t* hand = wiring.data() + g * per_group;
    for (std::int64_t k = 0; k < per_group;) {
      const auto fresh =
          std::find_if(deck.begin(), deck.end(), [&](std::int32_t b) { return std::find(hand, hand + k, b) == hand + k; });
      if (fresh != deck.end()) {
        hand[k++] = *fresh;
        deck.erase(fresh);
        continue;
      }
      const std::size_t begin = deck.size();
      deck.resize(begin + static_cast<std::size_t>(module.blocks()));
      std::iota(deck.begin() + static_cast<std::ptrdiff_t>(begin), deck.end(), 0);
      for (std::size_t i = deck.size() - 1; i > begin; --i)
        std::swap(deck[i], deck[begin + below(i - begin + 1, seed, stream, drawn++)]);
    }
  }
  return wiring;
}

}  // namespace neurogen

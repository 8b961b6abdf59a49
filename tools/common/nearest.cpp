#include "tools/common/nearest.h"

#include <algorithm>
#include <vector>

namespace neurogen {
namespace {

std::size_t distance(std::string_view a, std::string_view b) {
  // rows[i % 3][j]: distance between the first i letters of a and the first j of b.
  std::vector<std::size_t> rows[3];
  for (auto& row : rows) row.resize(b.size() + 1);
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      std::size_t& cell = rows[i % 3][j];
      if (i == 0 || j == 0) {
        cell = i + j;
        continue;
      }
      const auto &above = rows[(i - 1) % 3], &left = rows[i % 3];
      cell = std::min({above[j] + 1, left[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cell = std::min(cell, rows[(i - 2) % 3][j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

}  // namespace

std::string nearest_name(std::string_view word, std::span<const std::string> candidates) {
  constexpr std::size_t kLongest = 64;  // longer words are not typing errors
  std::string best;
  std::size_t least = word.size() / 3 + 1;
  for (const std::string& candidate : candidates) {
    if (word.size() > kLongest) break;
    const std::size_t far = distance(word, candidate);
    if (far < least) best = candidate, least = far;
  }
  return best;
}

}  // namespace neurogen

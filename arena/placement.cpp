#include "arena/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace neurogen {
namespace {

using Order = std::vector<std::size_t>;
enum class Fit { lowest, best };  // the lowest gap that is large enough, or the smallest

// Number of variations of the best order: many if each is cheap, and independent of the clock, which would change the result.
constexpr std::size_t kVariations = 2048, kVariationWork = 100'000'000;

struct Placed {
  Bytes offset, end;
  std::int64_t first, last;
};

// Places intervals one after another in some order, each into a gap between those alive with it.
class Shelf {
 public:
  explicit Shelf(const std::vector<Interval>& intervals) : intervals_(intervals), offsets_(intervals.size()) {
    placed_.reserve(intervals.size());
  }

  // Returns the height; stops at the first interval that ends above `limit`.
  Bytes fill(const Order& order, Fit fit, Bytes limit) {
    placed_.clear();
    Bytes height = 0;
    for (const std::size_t i : order) {
      if (height > limit) break;
      const Bytes offset = find(intervals_[i], fit);
      const Bytes end = add(offset, intervals_[i].size);
      offsets_[i] = offset;
      if (end > height) {
        height = end;
        highest_ = i;
      }
      const auto at = std::upper_bound(placed_.begin(), placed_.end(), offset,
                                       [](Bytes value, const Placed& other) { return value < other.offset; });
      placed_.insert(at, {offset, end, intervals_[i].first, intervals_[i].last});
    }
    return height;
  }

  const std::vector<Bytes>& offsets() const { return offsets_; }
  std::size_t highest() const { return highest_; }  // the interval that reached the last height

 private:
  Bytes find(const Interval& wanted, Fit fit) {
    Bytes top = 0, best = 0, best_gap = UINT64_MAX;
    bool found = false;
    for (const Placed& other : placed_) {                                       // by offset
      if ((other.last < wanted.first) | (wanted.last < other.first)) continue;  // one branch: it is hard to predict
      if (other.offset > top && other.offset - top >= wanted.size && other.offset - top < best_gap) {
        best = top;
        best_gap = other.offset - top;
        found = true;
        if (fit == Fit::lowest) break;
      }
      top = std::max(top, other.end);
    }
    return found ? best : top;
  }

  const std::vector<Interval>& intervals_;
  std::vector<Bytes> offsets_;
  std::vector<Placed> placed_;
  std::size_t highest_ = 0;
};

// Sorts by `key`, largest first; equal keys keep their order.
template <typename Key>
Order sorted(Order order, Key key) {
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) > key(b); });
  return order;
}

// Sum of the sizes alive at each interval's first operation; the largest sum is the lower bound.
std::vector<Bytes> alive_at_birth(const std::vector<Interval>& intervals) {
  Order births(intervals.size());
  std::iota(births.begin(), births.end(), 0);
  Order deaths = births;
  std::stable_sort(births.begin(), births.end(),
                   [&](std::size_t a, std::size_t b) { return intervals[a].first < intervals[b].first; });
  std::stable_sort(deaths.begin(), deaths.end(),
                   [&](std::size_t a, std::size_t b) { return intervals[a].last < intervals[b].last; });
  std::vector<Bytes> alive(intervals.size());
  Bytes sum = 0;
  std::size_t dead = 0;
  for (std::size_t b = 0; b < births.size();) {
    const std::int64_t now = intervals[births[b]].first;
    for (; intervals[deaths[dead]].last < now; ++dead) sum -= intervals[deaths[dead]].size;
    const std::size_t from = b;
    for (; b < births.size() && intervals[births[b]].first == now; ++b) sum = add(sum, intervals[births[b]].size);
    for (std::size_t i = from; i < b; ++i) alive[births[i]] = sum;
  }
  return alive;
}

// splitmix64 (Steele, Lea & Flood 2014): the standard library's distributions differ between compilers.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

Bytes lower_bound(const std::vector<Interval>& intervals, std::int64_t* at) {
  const std::vector<Bytes> alive = alive_at_birth(intervals);
  Bytes bound = 0;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    if (alive[i] > bound || (alive[i] == bound && intervals[i].first < first)) {
      bound = alive[i];
      first = intervals[i].first;
    }
  }
  if (at != nullptr) *at = first;
  return bound;
}

Placement place(const std::vector<Interval>& intervals, std::vector<OrderResult>* tried) {
  const Bytes bound = lower_bound(intervals);
  Order declared(intervals.size());
  std::iota(declared.begin(), declared.end(), 0);
  const auto alive = alive_at_birth(intervals);
  const auto length = [&](std::size_t i) { return intervals[i].last - intervals[i].first + 1; };
  const auto area = [&](std::size_t i) {
    return static_cast<unsigned __int128>(intervals[i].size) * static_cast<std::uint64_t>(length(i));
  };
  const Order by_size = sorted(sorted(declared, length), [&](std::size_t i) { return intervals[i].size; });
  const Order long_first = sorted(by_size, length);
  const struct {
    const char* name;
    Order order;
    Fit fit;
  } candidates[] = {
      {"size", by_size, Fit::lowest},
      {"pressure", sorted(by_size, [&](std::size_t i) { return alive[i]; }), Fit::lowest},
      {"lifetime", long_first, Fit::lowest},
      {"size x lifetime", sorted(by_size, area), Fit::lowest},
      {"size, best fit", by_size, Fit::best},
      {"lifetime, best fit", long_first, Fit::best},
      {"birth, best fit", sorted(by_size, [&](std::size_t i) { return -intervals[i].first; }), Fit::best},
  };
  if (tried != nullptr) {
    for (const auto& c : candidates) tried->push_back({c.name, Shelf(intervals).fill(c.order, c.fit, UINT64_MAX)});
  }

  Shelf shelf(intervals);
  Placement best{.offsets = std::vector<Bytes>(intervals.size()), .height = UINT64_MAX, .order = "none"};
  Order best_order;
  Fit best_fit = Fit::lowest;
  // Returns whether the lower bound is reached.
  const auto attempt = [&](const std::string& name, const Order& order, Fit fit) {
    const Bytes height = shelf.fill(order, fit, best.height);
    if (height < best.height) {
      best = {shelf.offsets(), height, name};
      best_order = order;
      best_fit = fit;
    }
    return best.height == bound;
  };
  for (const auto& c : candidates) {
    if (attempt(c.name, c.order, c.fit)) return best;
  }

  // The interval that reached highest moves forward, to the front or half way: it then finds a lower place, and the others fill in
  // around it. Every fourth time a random interval moves instead, so that two intervals cannot displace each other for ever.
  const std::size_t n = intervals.size();  // not 0: an empty list is placed at its lower bound
  const std::size_t variations = std::min(kVariations, kVariationWork / (n * n));
  std::uint64_t seed = 1;
  Order order = best_order;
  for (std::size_t v = 1; v <= variations; ++v) {
    const auto highest = std::find(order.begin(), order.end(), shelf.highest());
    std::size_t from = static_cast<std::size_t>(highest - order.begin());
    std::size_t to = v % 2 == 1 ? 0 : from / 2;
    if (v % 4 == 0) {
      from = next_random(seed) % n;
      to = next_random(seed) % (from + 1);
    }
    const auto at = [&](std::size_t i) { return order.begin() + static_cast<std::ptrdiff_t>(i); };
    std::rotate(at(to), at(from), at(from + 1));
    if (attempt(fmt::format("shuffle {}", v), order, best_fit)) return best;
  }
  return best;
}

}  // namespace neurogen

#include "engine/baseline/kneser_ney.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "arena/error.h"
#include "engine/files/tokens.h"

namespace neurogen {
namespace {

// Sorts keys and folds equal ones into one with a count.
void count(std::vector<std::uint64_t>& keys, std::vector<std::uint32_t>& counts) {
  std::sort(keys.begin(), keys.end());
  std::size_t distinct = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i == 0 || keys[i] != keys[distinct - 1]) {
      keys[distinct++] = keys[i];
      counts.push_back(0);
    }
    ++counts.back();
  }
  keys.resize(distinct);
}

double discount_of(const std::vector<std::uint32_t>& counts) {
  const auto once = static_cast<double>(std::count(counts.begin(), counts.end(), 1u));
  const auto twice = static_cast<double>(std::count(counts.begin(), counts.end(), 2u));
  // Where nothing was counted once the estimate would be 0 and what was never seen impossible; 1/2 is then as good as any.
  return once > 0 ? once / (once + 2 * twice) : 0.5;
}

}  // namespace

KneserNey::KneserNey(std::span<const std::uint16_t> tokens, int order, std::int64_t vocabulary) : vocabulary_(vocabulary) {
  if (order < 1 || order > 4) throw Error(fmt::format("an n-gram model of order {} is not made: choose 1 to 4", order));
  if (tokens.size() < static_cast<std::size_t>(order)) {
    throw Error(
        fmt::format("{} tokens are too few for an n-gram model of order {}: give a longer text", tokens.size(), order));
  }
  check_vocabulary(tokens, vocabulary, "the text");
  levels_.resize(static_cast<std::size_t>(order));
  for (int k = order; k >= 1; --k) {
    const std::uint64_t mask = k == 4 ? ~std::uint64_t{0} : (std::uint64_t{1} << 16 * k) - 1;
    Level& level = levels_[static_cast<std::size_t>(k - 1)];
    if (k == order) {
      std::uint64_t key = 0;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        key = (key << 16 | tokens[i]) & mask;
        if (i + 1 >= static_cast<std::size_t>(order)) level.grams.push_back(key);
      }
    } else {
      // Each different longer gram counts once for its ending.
      for (const std::uint64_t longer : levels_[static_cast<std::size_t>(k)].grams) level.grams.push_back(longer & mask);
    }
    count(level.grams, level.counts);
    level.discount = discount_of(level.counts);
    for (std::size_t i = 0; i < level.grams.size(); ++i) {
      const std::uint64_t context = level.grams[i] >> 16;
      if (level.contexts.empty() || level.contexts.back().key != context) level.contexts.push_back({context, i, 0});
      level.contexts.back().total += level.counts[i];
    }
    level.contexts.push_back({~std::uint64_t{0}, level.grams.size(), 0});
  }
}

const KneserNey::Context* KneserNey::find(const Level& level, std::uint64_t key) {
  const auto found = std::lower_bound(level.contexts.begin(), level.contexts.end() - 1, key,
                                      [](const Context& c, std::uint64_t wanted) { return c.key < wanted; });
  return found == level.contexts.end() - 1 || found->key != key ? nullptr : &*found;
}

double KneserNey::probability(std::span<const std::uint16_t> context, std::uint16_t token) const {
  double p = 1 / static_cast<double>(vocabulary_);
  std::uint64_t key = 0;  // of the last k - 1 tokens of the context
  for (std::size_t k = 1; k <= std::min(levels_.size(), context.size() + 1); ++k) {
    if (k > 1) key |= std::uint64_t{context[context.size() - k + 1]} << 16 * (k - 2);
    const Level& level = levels_[k - 1];
    const Context* const found = find(level, key);
    if (!found) break;  // no longer context was seen either
    const auto begin = level.grams.begin() + static_cast<std::ptrdiff_t>(found->begin);
    const auto end = level.grams.begin() + static_cast<std::ptrdiff_t>((found + 1)->begin);
    const auto gram = std::lower_bound(begin, end, key << 16 | token);
    const bool seen = gram != end && *gram == (key << 16 | token);
    const double own = seen ? level.counts[static_cast<std::size_t>(gram - level.grams.begin())] - level.discount : 0;
    p = (own + level.discount * static_cast<double>(end - begin) * p) / static_cast<double>(found->total);
  }
  return p;
}

double KneserNey::mean_loss(std::span<const std::uint16_t> held_out) const {
  if (held_out.size() < 2) throw Error("a held-out text of fewer than two tokens has nothing to predict: give a longer one");
  double sum = 0;
  for (std::size_t i = 1; i < held_out.size(); ++i) sum -= std::log(probability(held_out.first(i), held_out[i]));
  return sum / static_cast<double>(held_out.size() - 1);
}

// Only tokens that were seen behind a context, and the likeliest behind its end, can be the likeliest behind it: the others
// keep the order that they have there.
const KneserNey::Likeliest& KneserNey::likeliest(std::span<const std::uint16_t> context, std::span<Likeliest> latest) const {
  Likeliest& here = latest[context.size()];
  if (here.known && std::equal(context.begin(), context.end(), here.context.begin())) return here;
  here.known = true;
  here.context.assign(context.begin(), context.end());
  std::vector<std::int32_t> candidates;
  if (context.empty()) {  // with the lowest ids, for a text of fewer than five different tokens
    for (std::int32_t id = 0; id < std::min<std::int64_t>(vocabulary_, 10); ++id) candidates.push_back(id);
  } else {
    for (const std::int32_t id : likeliest(context.subspan(1), latest).tokens) {
      if (id >= 0) candidates.push_back(id);
    }
  }
  std::uint64_t key = 0;
  for (const std::uint16_t token : context) key = key << 16 | token;
  const Level& level = levels_[context.size()];
  if (const Context* const found = find(level, key)) {
    for (std::size_t i = found->begin; i < (found + 1)->begin; ++i) candidates.push_back(static_cast<std::int32_t>(level.grams[i] & 0xFFFF));
  }
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::vector<std::pair<double, std::int32_t>> ranked;  // by falling probability, then by rising id
  for (const std::int32_t id : candidates) ranked.emplace_back(-probability(context, static_cast<std::uint16_t>(id)), id);
  const std::size_t most = std::min(ranked.size(), here.tokens.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(most), ranked.end());
  here.tokens.fill(-1);
  for (std::size_t i = 0; i < most; ++i) here.tokens[i] = ranked[i].second;
  return here;
}

KneserNey::Hits KneserNey::hits(std::span<const std::uint16_t> held_out) const {
  const auto context_of = [&](std::size_t i) {
    const std::size_t length = std::min(i, levels_.size() - 1);
    return held_out.subspan(i - length, length);
  };
  // Equal contexts side by side, and those that end alike, so that each is looked up once.
  std::vector<std::uint32_t> order;
  for (std::size_t i = 1; i < held_out.size(); ++i) order.push_back(static_cast<std::uint32_t>(i));
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const auto x = context_of(a), y = context_of(b);
    return std::lexicographical_compare(x.rbegin(), x.rend(), y.rbegin(), y.rend());
  });
  std::vector<Likeliest> latest(levels_.size());
  Hits hits;
  for (const std::uint32_t i : order) {
    const auto& tokens = likeliest(context_of(i), latest).tokens;
    hits.first += tokens[0] == held_out[i];
    hits.among_five += std::find(tokens.begin(), tokens.end(), held_out[i]) != tokens.end();
  }
  return hits;
}

}  // namespace neurogen

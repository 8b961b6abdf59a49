#include "engine/baseline/kneser_ney.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "arena/error.h"

namespace neurogen {

Bytes KneserNey::most_bytes(std::size_t tokens, int order) {
  constexpr Bytes kRest = 1'000'000;  // rounding of blocks to pages, and memory of lookups
  return add(kRest, multiply(multiply(tokens + 1, sizeof(std::uint64_t) + sizeof(std::uint32_t)), static_cast<Bytes>(order)));
}

void KneserNey::count(Level& level) {
  std::vector<std::uint64_t>& grams = level.grams;
  std::sort(grams.begin(), grams.end());
  std::size_t distinct = 0;
  for (std::size_t i = 0; i < grams.size(); ++i) distinct += i == 0 || grams[i] != grams[i - 1];
  level.before.reserve(distinct + 1);
  for (std::size_t i = 0; i < grams.size(); ++i) {
    if (i > 0 && grams[i] == grams[level.before.size() - 1]) continue;
    grams[level.before.size()] = grams[i];
    level.before.push_back(static_cast<std::uint32_t>(i));
  }
  level.before.push_back(static_cast<std::uint32_t>(grams.size()));
  grams.resize(distinct);
}

double KneserNey::discount_of(const Level& level) {
  double once = 0, twice = 0;
  for (std::size_t i = 0; i < level.grams.size(); ++i) once += level.count(i) == 1, twice += level.count(i) == 2;
  // With no gram counted once the estimate would be 0 and unseen tokens impossible; use 1/2 then.
  return once > 0 ? once / (once + 2 * twice) : 0.5;
}

KneserNey::KneserNey(std::span<const TokenId> tokens, int order, std::int64_t vocabulary)
    : vocabulary_(vocabulary), bits_(std::bit_width(static_cast<std::uint64_t>(vocabulary - 1))) {
  if (order < 1 || order > 4) throw Error(fmt::format("an n-gram model of order {} is not supported: choose 1 to 4", order));
  if (tokens.size() < static_cast<std::size_t>(order)) {
    throw Error(fmt::format("{} tokens are too few for an n-gram model of order {}: give a longer text", tokens.size(), order));
  }
  if (tokens.size() > UINT32_MAX) throw Error(fmt::format("{} tokens are too many to count: give a shorter text", tokens.size()));
  if (order * bits_ > 64)
    throw Error(fmt::format("a vocabulary of {} is too large for an n-gram model of order {}", vocabulary, order));
  const auto outside = [&](TokenId token) { return token < 0 || token >= vocabulary; };
  if (const auto wrong = std::find_if(tokens.begin(), tokens.end(), outside); wrong != tokens.end()) {
    throw Error(fmt::format("the text has token {} at position {}, but the vocabulary has {}: use the tokenizer that made it",
                            *wrong, wrong - tokens.begin(), vocabulary));
  }
  levels_.resize(static_cast<std::size_t>(order));
  for (int k = order; k >= 1; --k) {
    const std::uint64_t mask = k * bits_ == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << k * bits_) - 1;
    Level& level = levels_[static_cast<std::size_t>(k - 1)];
    if (k == order) {
      level.grams.reserve(tokens.size());
      std::uint64_t key = 0;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        key = (key << bits_ | static_cast<std::uint64_t>(tokens[i])) & mask;
        if (i + 1 >= static_cast<std::size_t>(order)) level.grams.push_back(key);
      }
    } else {
      // Each distinct longer gram counts once for its suffix.
      const std::vector<std::uint64_t>& longer = levels_[static_cast<std::size_t>(k)].grams;
      level.grams.reserve(longer.size());
      for (const std::uint64_t gram : longer) level.grams.push_back(gram & mask);
    }
    count(level);
    level.discount = discount_of(level);
  }
}

KneserNey::Behind KneserNey::find(const Level& level, std::uint64_t key) const {
  const std::uint64_t first = key << bits_, last = first | ((std::uint64_t{1} << bits_) - 1);
  const auto begin = std::lower_bound(level.grams.begin(), level.grams.end(), first);
  const auto end = std::upper_bound(begin, level.grams.end(), last);
  return {static_cast<std::size_t>(begin - level.grams.begin()), static_cast<std::size_t>(end - level.grams.begin())};
}

double KneserNey::probability(std::span<const TokenId> context, TokenId token) const {
  double p = 1 / static_cast<double>(vocabulary_);
  std::uint64_t key = 0;  // the last k - 1 tokens of the context
  for (std::size_t k = 1; k <= std::min(levels_.size(), context.size() + 1); ++k) {
    if (k > 1) key |= static_cast<std::uint64_t>(context[context.size() - k + 1]) << bits_ * static_cast<int>(k - 2);
    const Level& level = levels_[k - 1];
    const Behind found = find(level, key);
    if (found.begin == found.end) break;  // longer contexts are unseen too
    const auto begin = level.grams.begin() + static_cast<std::ptrdiff_t>(found.begin);
    const auto end = level.grams.begin() + static_cast<std::ptrdiff_t>(found.end);
    const std::uint64_t whole = key << bits_ | static_cast<std::uint64_t>(token);
    const auto gram = std::lower_bound(begin, end, whole);
    const bool seen = gram != end && *gram == whole;
    const double own = seen ? level.count(static_cast<std::size_t>(gram - level.grams.begin())) - level.discount : 0;
    p = (own + level.discount * static_cast<double>(end - begin) * p) /
        static_cast<double>(level.before[found.end] - level.before[found.begin]);
  }
  return p;
}

double KneserNey::mean_loss(std::span<const TokenId> held_out) const {
  if (held_out.size() < 2) throw Error("a held-out text of fewer than two tokens has nothing to predict: give a longer one");
  double sum = 0;
  for (std::size_t i = 1; i < held_out.size(); ++i) sum -= std::log(probability(held_out.first(i), held_out[i]));
  return sum / static_cast<double>(held_out.size() - 1);
}

// Candidates for the likeliest tokens after a context are those seen after it and the likeliest after its suffix: all others keep
// their order from the suffix.
const KneserNey::Likeliest& KneserNey::likeliest(std::span<const TokenId> context, std::span<Likeliest> latest) const {
  Likeliest& here = latest[context.size()];
  if (here.known && std::equal(context.begin(), context.end(), here.context.begin())) return here;
  here.known = true;
  here.context.assign(context.begin(), context.end());
  std::vector<TokenId> candidates;
  if (context.empty()) {  // also the lowest ids, for a text of fewer than five different tokens
    for (TokenId id = 0; id < std::min<std::int64_t>(vocabulary_, 10); ++id) candidates.push_back(id);
  } else {
    for (const TokenId id : likeliest(context.subspan(1), latest).tokens) {
      if (id >= 0) candidates.push_back(id);
    }
  }
  std::uint64_t key = 0;
  for (const TokenId token : context) key = key << bits_ | static_cast<std::uint64_t>(token);
  const Level& level = levels_[context.size()];
  const Behind found = find(level, key);
  const std::uint64_t last = (std::uint64_t{1} << bits_) - 1;
  for (std::size_t i = found.begin; i < found.end; ++i) candidates.push_back(static_cast<TokenId>(level.grams[i] & last));
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::vector<std::pair<double, TokenId>> ranked;  // by decreasing probability, then by increasing id
  for (const TokenId id : candidates) ranked.emplace_back(-probability(context, id), id);
  const std::size_t most = std::min(ranked.size(), here.tokens.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(most), ranked.end());
  here.tokens.fill(-1);
  for (std::size_t i = 0; i < most; ++i) here.tokens[i] = ranked[i].second;
  return here;
}

KneserNey::Hits KneserNey::hits(std::span<const TokenId> held_out) const {
  const auto context_of = [&](std::size_t i) {
    const std::size_t length = std::min(i, levels_.size() - 1);
    return held_out.subspan(i - length, length);
  };
  constexpr std::size_t kPart = 100'000;  // tokens sorted together
  Hits hits;
  for (std::size_t first = 1; first < held_out.size(); first += kPart) {
    // Sort by reversed context, so that equal contexts are adjacent and each is looked up once.
    std::vector<std::size_t> order(std::min(kPart, held_out.size() - first));
    std::iota(order.begin(), order.end(), first);
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const auto x = context_of(a), y = context_of(b);
      return std::lexicographical_compare(x.rbegin(), x.rend(), y.rbegin(), y.rend());
    });
    std::vector<Likeliest> latest(levels_.size());
    for (const std::size_t i : order) {
      const auto& tokens = likeliest(context_of(i), latest).tokens;
      hits.first += tokens[0] == held_out[i];
      hits.among_five += std::find(tokens.begin(), tokens.end(), held_out[i]) != tokens.end();
    }
  }
  return hits;
}

}  // namespace neurogen

// What counting alone reaches: an interpolated Kneser-Ney n-gram model over token ids, the baseline that a learned model
// must beat. Kneser & Ney 1995, "Improved backing-off for m-gram language modeling"; the interpolated form with one discount
// an order is Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 2.7:
//   p_k(w | h) = max(c(h w) - D_k, 0) / c(h) + D_k types(h) / c(h) * p_{k-1}(w | h without its first token)
//   D_k = n1 / (n1 + 2 n2)      n1, n2: k-grams counted once, twice
// c counts occurrences in the highest order; in the lower ones, in how many different contexts the k-gram was seen (the
// number of different tokens before it). c(h) sums c(h w) over w; types(h) is the number of different w. A context never
// seen leaves p_{k-1}; p_0 = 1 / V.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "arena/bytes.h"

namespace neurogen {

class KneserNey {
 public:
  // order 1 to 4 (2: bigram); all tokens below the vocabulary V. Throws Error else, for fewer tokens than the order, and for 2^32
  // or more.
  KneserNey(std::span<const std::uint16_t> tokens, int order, std::int64_t vocabulary);

  // The most that a model holds, and needs while it is made, of so many tokens.
  static Bytes most_bytes(std::size_t tokens, int order);

  // p(token | context); of the context the last order - 1 tokens count, and fewer will do.
  double probability(std::span<const std::uint16_t> context, std::uint16_t token) const;
  // Mean negative log-likelihood, in nats a token, of tokens 1 ... n-1, each from those before it. n >= 2.
  double mean_loss(std::span<const std::uint16_t> held_out) const;
  // Of those tokens, how many are the likeliest behind their context, and how many among the five likeliest; lower ids come first
  // among equals.
  struct Hits {
    std::int64_t first = 0, among_five = 0;
  };
  Hits hits(std::span<const std::uint16_t> held_out) const;
  double discount(int order) const { return levels_[static_cast<std::size_t>(order - 1)].discount; }

 private:
  // The k-grams of one order. A key holds a gram's tokens, 16 bits each, the last lowest.
  struct Level {
    std::vector<std::uint64_t> grams;   // sorted
    std::vector<std::uint32_t> before;  // c of all grams before each, and of all of them
    double discount = 0;
    std::uint32_t count(std::size_t gram) const { return before[gram + 1] - before[gram]; }
  };
  // The grams that begin with a context, side by side; none where it was never seen.
  struct Behind {
    std::size_t begin, end;
  };

  // The likeliest tokens behind a context, -1 where there are fewer.
  struct Likeliest {
    std::vector<std::uint16_t> context;
    std::array<std::int32_t, 5> tokens{-1, -1, -1, -1, -1};
    bool known = false;
  };
  static void count(Level& level);  // sorts the grams and folds equal ones into one
  static double discount_of(const Level& level);
  static Behind find(const Level& level, std::uint64_t key);
  const Likeliest& likeliest(std::span<const std::uint16_t> context, std::span<Likeliest> latest) const;

  std::vector<Level> levels_;  // [order - 1]
  std::int64_t vocabulary_;
};

}  // namespace neurogen

// An interpolated Kneser-Ney n-gram model over token ids: the baseline from counting only, which a learned model must beat.
// Kneser & Ney 1995, "Improved backing-off for m-gram language modeling"; the interpolated form with one discount
// per order is Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 2.7:
//   p_k(w | h) = max(c(h w) - D_k, 0) / c(h) + D_k types(h) / c(h) * p_{k-1}(w | h without its first token)
//   D_k = n1 / (n1 + 2 n2)      n1, n2: k-grams counted once, twice
// c is the number of occurrences in the highest order, and in lower orders the number of different tokens seen before the k-gram.
// c(h) sums c(h w) over w; types(h) is the number of different w. For an unseen context p_k = p_{k-1}; p_0 = 1 / V.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "arena/bytes.h"
#include "engine/data/token_id.h"

namespace neurogen {

class KneserNey {
 public:
  // order 1 to 4 (2: bigram); all tokens below the vocabulary V, of which `order` must fit into 64 bits; at least `order` and fewer
  // than 2^32 tokens. Throws Error otherwise.
  KneserNey(std::span<const TokenId> tokens, int order, std::int64_t vocabulary);

  // Upper bound of a model's memory, also during its construction.
  static Bytes most_bytes(std::size_t tokens, int order);

  // p(token | context); only the last order - 1 tokens of the context count, and it may be shorter.
  double probability(std::span<const TokenId> context, TokenId token) const;
  // Mean negative log-likelihood, in nats per token, of tokens 1 ... n-1, each given those before it. n >= 2.
  double mean_loss(std::span<const TokenId> held_out) const;
  // Number of those tokens that are the likeliest after their context, and among the five likeliest; lower ids win ties.
  struct Hits {
    std::int64_t first = 0, among_five = 0;
  };
  Hits hits(std::span<const TokenId> held_out) const;
  double discount(int order) const { return levels_[static_cast<std::size_t>(order - 1)].discount; }

 private:
  // The k-grams of one order. A key holds a gram's tokens, bits_ each, the last lowest.
  struct Level {
    std::vector<std::uint64_t> grams;   // sorted
    std::vector<std::uint32_t> before;  // prefix sums of c: over all grams before each, then over all
    double discount = 0;
    std::uint32_t count(std::size_t gram) const { return before[gram + 1] - before[gram]; }
  };
  // The range of grams that begin with a context; empty for an unseen context.
  struct Behind {
    std::size_t begin, end;
  };

  // The likeliest tokens after a context, -1 beyond the last.
  struct Likeliest {
    std::vector<TokenId> context;
    std::array<std::int32_t, 5> tokens{-1, -1, -1, -1, -1};
    bool known = false;
  };
  static void count(Level& level);  // sorts the grams and folds equal ones into one
  static double discount_of(const Level& level);
  Behind find(const Level& level, std::uint64_t key) const;
  const Likeliest& likeliest(std::span<const TokenId> context, std::span<Likeliest> latest) const;

  std::vector<Level> levels_;  // [order - 1]
  std::int64_t vocabulary_;
  int bits_;  // of a token in a key
};

}  // namespace neurogen

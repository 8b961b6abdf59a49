#include "engine/baseline/kneser_ney.h"

#include <cmath>
#include <random>
#include <tuple>

#include "tests/expect_error.h"

namespace neurogen {
namespace {

using Ids = std::vector<std::int32_t>;

// The last two tokens together decide the next one, in four of five cases.
Ids second_order_source(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  Ids ids = {0, 1};
  while (ids.size() < n) {
    const unsigned a = ids[ids.size() - 2], b = ids.back();
    ids.push_back(static_cast<std::int32_t>(random() % 10 < 8 ? (3 * a + 5 * b + a * b) % 16 : random() % 16));
  }
  return ids;
}

TEST(KneserNey, SumsToOneForEveryContext) {
  const Ids ids = second_order_source(2000, 1);
  std::mt19937 random(2);
  for (int order = 1; order <= 4; ++order) {
    const KneserNey model(ids, order, 30);  // 14 tokens never occur
    for (int trial = 0; trial < 200; ++trial) {
      Ids context(random() % 5);
      for (auto& id : context) id = static_cast<std::int32_t>(random() % (trial % 2 ? 30 : 16));
      double sum = 0;
      for (std::int32_t token = 0; token < 30; ++token) {
        const double p = model.probability(context, token);
        ASSERT_GT(p, 0);
        sum += p;
      }
      ASSERT_NEAR(sum, 1, 1e-12) << "order " << order;
    }
  }
}

// The text 0 1 0 1 2 0 3, by hand. Bigrams: 01 twice, 10 12 20 03 once: D2 = 4 / (4 + 2*1) = 2/3.
// Continuations: before 0 stand {1, 2}, before 1 {0}, before 2 {1}, before 3 {0}: counts 2 1 1 1, D1 = 3 / (3 + 2) = 3/5.
// p1(w) = (count - 3/5) / 5 + 3/5 * 4/5 * 1/V with V = 8: p1(0) = 1.4/5 + 0.06 = 0.34, p1(1) = 0.4/5 + 0.06 = 0.14,
// p1(7) = 0.06. c(0 .) = 3 of types {1, 3}, so what is left is 2/3 * 2/3 = 4/9:
// p2(1|0) = (2 - 2/3)/3 + 4/9 * 0.14, p2(3|0) = (1 - 2/3)/3 + 4/9 * 0.14, p2(7|0) = 4/9 * 0.06.
TEST(KneserNey, AgreesWithASumByHand) {
  const Ids ids = {0, 1, 0, 1, 2, 0, 3};
  const KneserNey model(ids, 2, 8);
  EXPECT_DOUBLE_EQ(model.discount(2), 2.0 / 3);
  EXPECT_DOUBLE_EQ(model.discount(1), 3.0 / 5);
  EXPECT_NEAR(model.probability({}, 0), 0.34, 1e-15);
  const Ids zero = {0}, unseen = {6}, last = {3};
  EXPECT_NEAR(model.probability(zero, 1), 4.0 / 9 + 4.0 / 9 * 0.14, 1e-15);
  EXPECT_NEAR(model.probability(zero, 3), 1.0 / 9 + 4.0 / 9 * 0.14, 1e-15);
  EXPECT_NEAR(model.probability(zero, 7), 4.0 / 9 * 0.06, 1e-15);
  EXPECT_NEAR(model.probability(unseen, 0), 0.34, 1e-15);
  EXPECT_NEAR(model.probability(last, 1), 0.14, 1e-15);  // 3 occurs, but nothing follows it
  const Ids held_out = {0, 1, 7};
  const double p7 = 2.0 / 3 * 2 / 2 * 0.06;  // c(1 .) = 2 of types {0, 2}
  EXPECT_NEAR(model.mean_loss(held_out), -(std::log(4.0 / 9 + 4.0 / 9 * 0.14) + std::log(p7)) / 2, 1e-12);
}

TEST(KneserNey, ATrigramSeesWhatABigramCannot) {
  const Ids train = second_order_source(40000, 3), held_out = second_order_source(5000, 4);
  const double bigram = KneserNey(train, 2, 16).mean_loss(held_out), trigram = KneserNey(train, 3, 16).mean_loss(held_out);
  // The source's own distribution: 0.8 + 0.2 / 16 on one token, 0.2 / 16 on each of the others.
  const double entropy = -(0.8125 * std::log(0.8125) + 15 * 0.0125 * std::log(0.0125));
  EXPECT_LT(trigram, bigram - 0.3);
  EXPECT_GT(trigram, entropy - 0.03);
  EXPECT_LT(trigram, entropy + 0.1);
  EXPECT_LT(bigram, std::log(16.0) + 0.01);
}

TEST(KneserNey, TheLargestTokenHasItsPlace) {
  Ids ids;
  for (int i = 0; i < 20; ++i) ids.insert(ids.end(), {65535, 65534});
  for (int order = 1; order <= 4; ++order) {
    const KneserNey model(ids, order, 65536);
    EXPECT_GT(model.probability(ids, 65535), order == 1 ? 0.4 : 0.9);
    EXPECT_TRUE(std::isfinite(model.mean_loss(ids)));
  }
}

// Compares with all probabilities of the vocabulary, sorted.
TEST(KneserNey, HitsAreThoseOfASortOfTheWholeVocabulary) {
  for (const auto& [vocabulary, train, held_out] : {std::tuple{30, second_order_source(2000, 1), second_order_source(500, 2)},
                                                    {16, second_order_source(200, 1), second_order_source(500, 2)},
                                                    {40, Ids{0, 1, 0, 1, 2, 0, 3}, Ids{0, 1, 39, 2, 0, 0, 3, 7, 4, 1, 0}},
                                                    {3, Ids{1, 1, 1, 1, 1}, Ids{1, 2, 1, 0, 1}},
                                                    {65536, Ids{65535, 3, 65535, 3, 4}, Ids{3, 65535, 2, 3, 4, 9, 65535, 3}}}) {
    for (int order = 1; order <= 4; ++order) {
      SCOPED_TRACE(testing::Message() << "order " << order << ", vocabulary " << vocabulary);
      const KneserNey model(train, order, vocabulary);
      std::int64_t first = 0, among_five = 0;
      for (std::size_t i = 1; i < held_out.size(); ++i) {
        const double mine = model.probability(std::span(held_out).first(i), held_out[i]);
        int better = 0;
        for (int id = 0; id < vocabulary; ++id) {
          const double p = model.probability(std::span(held_out).first(i), static_cast<std::int32_t>(id));
          better += p > mine || (p == mine && id < held_out[i]);
        }
        first += better == 0;
        among_five += better < 5;
      }
      const KneserNey::Hits hits = model.hits(held_out);
      EXPECT_EQ(hits.first, first);
      EXPECT_EQ(hits.among_five, among_five);
    }
  }
}

TEST(KneserNey, RefusesWhatCannotBeCounted) {
  const Ids ids = {1, 2, 3};
  EXPECT_ERROR(KneserNey(ids, 0, 8), "order 0");
  EXPECT_ERROR(KneserNey(ids, 5, 8), "order 5");
  EXPECT_ERROR(KneserNey(ids, 4, 8), "3 tokens are too few");
  EXPECT_ERROR(KneserNey(ids, 2, 3), "token 3 at position 2");
  EXPECT_ERROR(KneserNey(ids, 2, 8).mean_loss(std::span(ids).first(1)), "fewer than two tokens");
}

}  // namespace
}  // namespace neurogen

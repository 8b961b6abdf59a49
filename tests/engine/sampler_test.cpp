// Compares every filter of the sampler with a plain implementation of its definition, and draws with the distribution.
#include "engine/run/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "tests/expect_error.h"

namespace neurogen {
namespace {

using Values = std::vector<double>;

// A sampler with its own memory.
struct Bench {
  explicit Bench(Values logits_, Sampling sampling = {.temperature = 1})
      : logits(std::move(logits_)), memory(logits.size(), DType::f64), sampler(memory.memory(), sampling) {}
  TensorView view() { return make_view(logits.data(), DType::f64, {static_cast<std::int64_t>(logits.size())}); }
  Values distribution() {
    const TensorView& weights = sampler.weigh(view());
    Values p(weights.as<const double>(), weights.as<const double>() + weights.elements());
    double sum = 0;
    for (const double weight : p) sum += weight;
    for (double& weight : p) weight /= sum;
    return p;
  }
  Values logits;
  SamplerVectors memory;
  Sampler sampler;
};

Values softmax(const Values& logits, double temperature) {
  Values p;
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double x : logits) p.push_back(std::exp((x - highest) / temperature)), sum += p.back();
  for (double& x : p) x /= sum;
  return p;
}

// Ids by descending probability, lower ids first among equals.
std::vector<std::size_t> ranked(const Values& p) {
  std::vector<std::size_t> ids(p.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = i;
  std::stable_sort(ids.begin(), ids.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
  return ids;
}

// p restricted to the ids for which `stays` holds (given rank, mass of higher ranks, id), rescaled.
Values kept(const Values& p, const std::function<bool(std::size_t rank, double before, double probability)>& stays) {
  Values out(p.size(), 0.0);
  double before = 0, sum = 0;
  const auto ids = ranked(p);
  for (std::size_t rank = 0; rank < ids.size(); ++rank) {
    if (stays(rank, before, p[ids[rank]])) out[ids[rank]] = p[ids[rank]], sum += p[ids[rank]];
    before += p[ids[rank]];
  }
  for (double& x : out) x /= sum;
  return out;
}

void expect_near(const Values& actual, const Values& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  double sum = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], 1e-12) << "token " << i;
    EXPECT_EQ(actual[i] == 0, expected[i] == 0) << "token " << i;
    sum += actual[i];
  }
  EXPECT_NEAR(sum, 1, 1e-12);
}

Values some_logits(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, 2);
  Values logits(n);
  for (double& x : logits) x = normal(random);
  if (n > 3) logits[n / 2] = logits[n / 3];  // a tie
  return logits;
}

TEST(Sampler, TemperatureIsASoftmaxAndZeroTakesTheLikeliest) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const Values logits = some_logits(50, seed);
    for (double t : {0.1, 0.7, 1.0, 5.0, 100.0}) expect_near(Bench(logits, {.temperature = t}).distribution(), softmax(logits, t));
    Values best(50, 0.0);
    best[ranked(logits)[0]] = 1;
    expect_near(Bench(logits, {.temperature = 0}).distribution(), best);
    expect_near(Bench(logits, {.temperature = 1, .top_k = 1}).distribution(), best);
    expect_near(Bench(logits, {.temperature = 1, .top_p = 0}).distribution(), best);
    expect_near(Bench(logits, {.temperature = 1, .min_p = 1}).distribution(), best);
  }
  expect_near(Bench({3, 7, 7, 1}, {.temperature = 0}).distribution(), {0, 1, 0, 0});  // the lower id of two
  expect_near(Bench({1000, 0, -1000}, {.temperature = 1e-300}).distribution(), {1, 0, 0});
}

TEST(Sampler, EachFilterKeepsWhatItsDefinitionKeeps) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    const Values logits = some_logits(1 + seed * 3, seed);
    for (double t : {0.5, 1.0, 2.0}) {
      const Values p = softmax(logits, t);
      for (std::int64_t k : {1, 2, 5, 20, 1000}) {
        expect_near(Bench(logits, {.temperature = t, .top_k = k}).distribution(),
                    kept(p, [&](std::size_t rank, double, double) { return rank < static_cast<std::size_t>(k); }));
      }
      for (double share : {0.05, 0.3, 0.9, 0.999}) {
        expect_near(Bench(logits, {.temperature = t, .top_p = share}).distribution(),
                    kept(p, [&](std::size_t, double before, double) { return before < share; }));
      }
      const double highest = *std::max_element(p.begin(), p.end());
      for (double least : {0.01, 0.1, 0.5}) {
        expect_near(Bench(logits, {.temperature = t, .min_p = least}).distribution(),
                    kept(p, [&](std::size_t, double, double x) { return x >= least * highest; }));
      }
      // All three in turn, each on the ids that the one before has left.
      const Values after_k = kept(p, [](std::size_t rank, double, double) { return rank < 12; });
      const Values after_p = kept(after_k, [](std::size_t, double before, double) { return before < 0.8; });
      const Values after_min = kept(
          after_p, [&](std::size_t, double, double x) { return x >= 0.2 * *std::max_element(after_p.begin(), after_p.end()); });
      expect_near(Bench(logits, {.temperature = t, .top_k = 12, .top_p = 0.8, .min_p = 0.2}).distribution(), after_min);
    }
  }
}

TEST(Sampler, EquallyLikelyTokensAreCutFromTheHighestIdOn) {
  expect_near(Bench(Values(8, 1.5), {.temperature = 1, .top_k = 3}).distribution(), {1. / 3, 1. / 3, 1. / 3, 0, 0, 0, 0, 0});
  expect_near(Bench(Values(8, 1.5), {.temperature = 1, .top_p = 0.5}).distribution(), {.25, .25, .25, .25, 0, 0, 0, 0});
}

TEST(Sampler, RepetitionsArePaidForOncePerTokenWhateverTheLogitsSign) {
  const Values logits = {2, -2, 0, 1, 3};
  Bench bench(logits, {.temperature = 1, .repetition_penalty = 1.25});
  expect_near(bench.distribution(), softmax(logits, 1));
  for (int token : {0, 1, 0, 2}) bench.sampler.note(token);
  expect_near(bench.distribution(), softmax({2 / 1.25, -2 * 1.25, 0, 1, 3}, 1));
  bench.sampler.forget();
  expect_near(bench.distribution(), softmax(logits, 1));
  // The greedy choice changes too.
  Bench greedy({2, 1.9}, {.temperature = 0, .repetition_penalty = 1.25});
  EXPECT_EQ(greedy.sampler.draw(greedy.view()), 0);
  greedy.sampler.note(0);
  EXPECT_EQ(greedy.sampler.draw(greedy.view()), 1);
}

TEST(Sampler, SilentTokensAreNeverDrawnAndTheOthersShareTheirPlace) {
  Bench bench({5, 1, 2, 9}, {.temperature = 1, .top_k = 2});
  bench.sampler.silence(3);
  bench.sampler.silence(0);
  const Values p = softmax({1, 2}, 1);
  expect_near(bench.distribution(), {0, p[0], p[1], 0});
}

// Pearson's chi-square of 100,000 draws must stay below its 99.9 % point for these degrees of freedom.
void expect_draws_follow(const Values& logits, const Sampling& sampling) {
  constexpr int kDraws = 100'000;
  Bench bench(logits, sampling);
  const Values p = bench.distribution();
  Values counts(p.size(), 0.0);
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(bench.sampler.draw(bench.view()))];
  double chi_square = 0, degrees = -1;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
      continue;
    }
    chi_square += (counts[i] - kDraws * p[i]) * (counts[i] - kDraws * p[i]) / (kDraws * p[i]);
    ++degrees;
  }
  // Wilson and Hilferty's cube-root approximation, 3.1 standard deviations out.
  const double limit = degrees * std::pow(1 - 2 / (9 * degrees) + 3.1 * std::sqrt(2 / (9 * degrees)), 3);
  EXPECT_LT(chi_square, limit) << degrees << " degrees of freedom";
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const Values logits = some_logits(40, 7);
  expect_draws_follow(logits, {.temperature = 1, .seed = 3});
  expect_draws_follow(logits, {.temperature = 0.5, .top_k = 10, .seed = 4});
  expect_draws_follow(logits, {.temperature = 2, .top_p = 0.7, .seed = 5});
  expect_draws_follow(logits, {.temperature = 1.5, .min_p = 0.1, .seed = 6});
}

// Realistic logits: single precision and a whole vocabulary, over many pieces.
TEST(Sampler, SinglePrecisionWeighsAsDoubleDoes) {
  const Values logits = some_logits(3000, 8);
  std::vector<float> single(logits.begin(), logits.end());
  const TensorView view = make_view(single.data(), DType::f32, {3000});
  for (const Sampling& sampling : {Sampling{.temperature = 0.8}, Sampling{.temperature = 1, .top_k = 100, .min_p = 1e-3},
                                   Sampling{.temperature = 1, .top_p = 0.9}, Sampling{.temperature = 1e-300}}) {
    const Values expected = Bench(logits, sampling).distribution();
    SamplerVectors memory(single.size(), DType::f32);
    Sampler sampler(memory.memory(), sampling);
    const TensorView& weights = sampler.weigh(view);
    double sum = 0;
    for (std::int64_t i = 0; i < 3000; ++i) sum += static_cast<double>(weights.as<float>()[i]);
    for (std::int64_t i = 0; i < 3000; ++i) {
      const double p = static_cast<double>(weights.as<float>()[i]) / sum;
      EXPECT_NEAR(p, expected[static_cast<std::size_t>(i)], 1e-7) << "token " << i;
    }
    for (int i = 0; i < 200; ++i) EXPECT_GT(expected[static_cast<std::size_t>(sampler.draw(view))], 0);
  }
  SamplerVectors memory(single.size(), DType::f32);
  Sampler hot(memory.memory(), {.temperature = 1e300});  // all ids are equally likely, except the silent ones
  hot.silence(7);
  const float* const weights = hot.weigh(view).as<float>();
  for (int i = 0; i < 3000; ++i) EXPECT_EQ(weights[i], i == 7 ? 0.0f : 1.0f) << "token " << i;
}

TEST(Sampler, EqualSeedsGiveEqualDraws) {
  const auto draws = [](std::int64_t seed) {
    Bench bench(some_logits(40, 7), {.temperature = 1, .seed = seed});
    std::vector<std::int32_t> ids(50);
    for (auto& id : ids) id = bench.sampler.draw(bench.view());
    return ids;
  };
  EXPECT_EQ(draws(3), draws(3));
  EXPECT_NE(draws(3), draws(4));
}

TEST(Sampler, RefusesDamagedLogits) {
  for (double wrong : {std::nan(""), double{INFINITY}, -double{INFINITY}}) {
    Bench bench({1, wrong, 2}, {.temperature = 1, .top_p = 0.5});
    EXPECT_ERROR(bench.distribution(), "not finite");
  }
}

TEST(LogProbability, IsTheBrainsOwn) {
  Bench bench(some_logits(40, 1), {.temperature = 0.1, .top_k = 2, .repetition_penalty = 2});
  bench.sampler.note(5);
  const Values p = softmax(bench.logits, 1);
  bench.sampler.draw(bench.view());
  for (int token = 0; token < 40; ++token)
    EXPECT_NEAR(log_probability(bench.view(), token), std::log(p[static_cast<std::size_t>(token)]), 1e-12);
}

}  // namespace
}  // namespace neurogen

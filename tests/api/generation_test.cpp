// Prompts that the engine continues.
#include <stdexcept>

#include "tests/api/engines.h"

namespace neurogen {
namespace {

TEST_F(Api, SpeaksTokenByToken) {
  Engine engine = made(options());
  trained(engine, 3);
  std::vector<std::int32_t> whole(20), some;
  ASSERT_EQ(engine.generate(text(5), whole).value(), 20u);
  ASSERT_TRUE(engine.generate(text(5), [&](std::int32_t token) { return some.push_back(token), some.size() < 7; }));
  EXPECT_EQ(some, std::vector<std::int32_t>(whole.begin(), whole.begin() + 7));
}

TEST_F(Api, MayBeUsedByWhatTakesItsTokens) {
  Engine engine = made(options());
  trained(engine, 3);
  Ids whole(9), some;
  ASSERT_EQ(engine.generate(text(5), whole).value(), 9u);
  const auto evaluating = [&](std::int32_t token) {
    EXPECT_TRUE(engine.evaluate(text(90)));
    some.push_back(token);
    if (some.size() == 9) throw std::domain_error("enough");
    return true;
  };
  EXPECT_THROW(static_cast<void>(engine.generate(text(5), evaluating)), std::domain_error);
  EXPECT_EQ(some, whole);
}

TEST_F(Api, SpeaksAtTheCallersPace) {
  Engine engine = made(options());
  trained(engine, 3);
  EXPECT_EQ(engine.next().value(), std::nullopt);  // nothing is begun
  Ids whole(12), some;
  ASSERT_EQ(engine.generate(text(5), whole).value(), 12u);
  ASSERT_TRUE(engine.begin(text(5)));
  std::vector<float> logits(48 * 300);
  for (int i = 0; i < 12; ++i) {
    some.push_back(engine.next()->value());
    ASSERT_TRUE(engine.logits(text(48), logits));  // other calls change nothing
    ASSERT_TRUE(engine.evaluate(text(90)));
  }
  EXPECT_EQ(some, whole);
  EXPECT_EQ(engine.allocations_since_construction(), 0u);
  expect_refused(engine.begin({}), "prompt", {"prompt has no tokens"});
}

TEST_F(Api, ATextEndsWithItsDocument) {
  EngineOptions o = options();
  o.document_end = 0;
  Engine engine = made(o);
  std::vector<float> decoder(300 * 64);
  ASSERT_TRUE(engine.read_parameter("decoder.weight", decoder));
  const Ids prompt = {5, 3};
  Sampling likeliest;
  likeliest.temperature = 0;
  Ids one(1);
  ASSERT_EQ(engine.generate(prompt, one, likeliest).value(), 1u);
  std::swap_ranges(decoder.begin(), decoder.begin() + 64, decoder.begin() + 64 * one[0]);  // makes the end the likeliest
  ASSERT_TRUE(engine.write_parameter("decoder.weight", decoder));
  Ids said(9);
  EXPECT_EQ(engine.generate(prompt, said, likeliest).value(), 1u);
  EXPECT_EQ(said[0], 0);
  EXPECT_EQ(engine.next().value(), std::nullopt);
}

TEST_F(Api, EachOfSeveralPromptsGetsWhatItWouldGetAlone) {
  Engine engine = made(options());
  trained(engine, 3);
  const std::vector<Ids> prompts = {text(5), text(1, 40), text(17, 3)};
  const std::vector<std::size_t> lengths = {7, 1, 12};
  std::vector<Ids> together(3);
  std::size_t last = 0;
  Sampling sampling;
  sampling.repetition_penalty = 1.5;  // depends on the whole text
  const auto put = [&](std::size_t prompt, std::int32_t token) {
    EXPECT_GE(prompt, last);  // one after the other
    last = prompt;
    together[prompt].push_back(token);
    return together[prompt].size() < lengths[prompt];
  };
  ASSERT_TRUE(engine.generate(prompts, put, sampling));
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    Ids alone(lengths[i]);
    Engine fresh = made(options());
    trained(fresh, 3);
    ASSERT_EQ(fresh.generate(prompts[i], alone, sampling).value(), lengths[i]);
    EXPECT_EQ(together[i], alone) << i;
  }
  int taken = 0;
  const auto take = [&](std::size_t, std::int32_t) { return ++taken, false; };
  expect_refused(engine.generate(std::vector<Ids>{{1}, {}}, take), "prompts", {"prompts[1] has no tokens"});
  expect_refused(engine.generate(std::vector<Ids>{{1}, {2, 300}}, take), "prompts",
                 {"prompts[1][1] is 300: use ids from 0 to 299"});
  Sampling wrong;
  wrong.min_p = 3;
  expect_refused(engine.generate(prompts, take, wrong), "min_p", {"min_p is 3"});
  EXPECT_EQ(taken, 0);
  EXPECT_TRUE(engine.generate(std::vector<Ids>{}, take));
}

}  // namespace
}  // namespace neurogen

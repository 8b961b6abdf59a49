// An evaluation's counts, compared with a stream that predicts the same tokens one by one.
#include "engine/run/evaluator.h"

#include "engine/run/stream.h"
#include "tests/engine/laws.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

// Returns how many targets were among the first five.
std::int64_t expect_evaluation_of_a_stream(std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random random(seed);
  const BrainShape a = random_architecture(random);
  StepOptions o = random_options(random, a);
  o.compute = o.decoder_storage = DType::f64;
  const auto vocabulary = static_cast<std::size_t>(a.vocabulary);
  std::vector<std::uint16_t> ids(static_cast<std::size_t>(2 * o.tokens() + random.between(2, 50)));
  for (auto& id : ids) id = static_cast<std::uint16_t>(random.between(0, a.vocabulary - 1));
  const TemporaryDirectory directory;
  const Tokens text({directory.file("text.bin", {reinterpret_cast<const char*>(ids.data()), ids.size() * 2})}, nullptr);

  Session single(planned(build_stream(a, o), kPlenty));
  initialize_everything(single.model, single.program, seed);
  Stream stream(single.model, single.program);
  Evaluation expected;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    if (i % static_cast<std::size_t>(o.window) == 0) stream.reset();
    const double* logits = stream.step(ids[i]).as<double>();
    const std::size_t target = ids[i + 1];
    double sum = 0;
    int better = 0;
    for (std::size_t v = 0; v < vocabulary; ++v) {
      sum += std::exp(logits[v] - logits[target]);
      better += logits[v] > logits[target] || (logits[v] == logits[target] && v < target);
    }
    expected.loss += std::log(sum);
    expected.right += better == 0;
    expected.among_five += better < 5;
  }
  const auto count = static_cast<std::int64_t>(ids.size()) - 1;

  Session whole(planned(build_evaluation(a, o), kPlenty));
  initialize_everything(whole.model, whole.program, seed);
  whole.program.set_poison(true);
  const Evaluation evaluation = Evaluator(whole.model, whole.program).run(text);
  EXPECT_EQ(evaluation.tokens, count);
  EXPECT_NEAR(evaluation.loss, expected.loss / static_cast<double>(count), 1e-9);
  EXPECT_EQ(evaluation.right, expected.right);
  EXPECT_EQ(evaluation.among_five, expected.among_five);
  return static_cast<std::int64_t>(evaluation.among_five);
}

// What is learned of a text, and the rest, together are the text.
TEST(Evaluator, CountsOnlyWhatAMaskLetsItLearn) {
  Random random(9);
  const BrainShape a = random_architecture(random);
  StepOptions o = random_options(random, a);
  o.compute = o.decoder_storage = DType::f64;
  std::vector<std::uint16_t> ids(static_cast<std::size_t>(2 * o.tokens() + 7));
  std::string mask, rest;
  for (auto& id : ids) {
    id = static_cast<std::uint16_t>(random.between(0, a.vocabulary - 1));
    mask += static_cast<char>(random.between(0, 1));
    rest += static_cast<char>(1 - mask.back());
  }
  const TemporaryDirectory directory;
  const std::string path = directory.file("text.bin", {reinterpret_cast<const char*>(ids.data()), ids.size() * 2});
  Session session(planned(build_evaluation(a, o), kPlenty));
  initialize_everything(session.model, session.program, 9);
  const auto evaluation = [&] { return Evaluator(session.model, session.program).run(Tokens({path}, nullptr)); };
  const Evaluation all = evaluation();
  directory.file("text.mask", mask);
  const Evaluation learned = evaluation();
  directory.file("text.mask", rest);
  const Evaluation other = evaluation();
  EXPECT_EQ(learned.tokens, std::count(mask.begin() + 1, mask.end(), '\1'));
  EXPECT_EQ(learned.tokens + other.tokens, all.tokens);
  EXPECT_EQ(learned.right + other.right, all.right);
  const auto sum = [](const Evaluation& e) { return e.loss * static_cast<double>(e.tokens); };
  EXPECT_NEAR(sum(learned) + sum(other), sum(all), 1e-9 * sum(all));
}

TEST(Evaluator, CountsWhatAStreamPredicts) {
  std::int64_t among_five = 0;
  for (std::uint64_t seed = 0; seed < 4; ++seed) among_five += expect_evaluation_of_a_stream(seed);
  EXPECT_GT(among_five, 0);
}

}  // namespace
}  // namespace neurogen

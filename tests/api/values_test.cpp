// What the engine shows and takes in: losses, logits, outputs and parameters.
#include <cmath>
#include <numeric>

#include "tests/api/engines.h"

namespace neurogen {
namespace {

TEST_F(Api, ShowsWhatModulesPutOut) {
  Engine engine = made(options());
  EXPECT_EQ(engine.modules(),
            (std::vector<std::string_view>{"thalamus", "wernicke", "hippocampus", "basal_ganglia", "prefrontal", "broca"}));
  const Batch b = batch(engine);
  ASSERT_TRUE(engine.train_step_batch(b.inputs, b.targets));
  for (const std::string_view module : engine.modules()) {
    const auto width = static_cast<std::size_t>(engine.outputs(module).value());
    std::vector<float> out(width * 48, NAN), again(width * 48);
    ASSERT_TRUE(engine.read_output(module, out));
    double squares = 0;
    for (const float x : out) squares += double(x) * x;
    EXPECT_NEAR(squares / static_cast<double>(out.size()), 1, 0.1) << module;  // normalised, gains near 1
    EXPECT_NE(out.front(), out[width]) << module;
    ASSERT_TRUE(engine.evaluate(b.inputs));  // the same tokens except the last window's last
    ASSERT_TRUE(engine.read_output(module, again));
    EXPECT_TRUE(std::equal(out.begin(), out.end() - static_cast<std::ptrdiff_t>(width), again.begin())) << module;
  }
}

TEST_F(Api, EmbeddingRowsLieInTheEngine) {
  Engine engine = made(options());
  const std::span<const float> row = engine.embedding_row(14).value();
  ASSERT_EQ(static_cast<std::int64_t>(row.size()), engine.embedding_width());
  std::vector<float> before(row.begin(), row.end()), copy(row.size());
  ASSERT_TRUE(engine.read_embedding_row(14, copy));
  EXPECT_EQ(copy, before);
  EXPECT_EQ(engine.embedding_row(15).value().data(), row.data() + row.size());
  trained(engine, 1);  // token 14 is in the batch
  EXPECT_FALSE(std::equal(row.begin(), row.end(), before.begin()));
}

TEST_F(Api, LossesAndLogitsAreThoseOfTheEvaluation) {
  Engine engine = made(options());
  trained(engine, 3);
  Batch b = batch(engine);
  b.targets[5] = -1;
  std::vector<float> losses(48), logits(48 * 300);
  ASSERT_TRUE(engine.losses(b.inputs, b.targets, losses));
  ASSERT_TRUE(engine.logits(b.inputs, logits));
  EXPECT_EQ(engine.allocations_since_construction(), 0u);
  EXPECT_EQ(losses[5], 0);
  for (std::size_t n = 0; n < losses.size(); ++n) {
    if (b.targets[n] < 0) continue;
    const float* row = logits.data() + 300 * n;
    double sum = 0;
    for (int v = 0; v < 300; ++v) sum += std::exp(row[v] - row[b.targets[n]]);
    EXPECT_NEAR(losses[n], std::log(sum), 1e-4);
  }
  expect_refused(engine.losses(b.inputs, b.targets, std::span(losses).first(9)), "out", {"out has 9 elements"});
  expect_refused(engine.logits(b.inputs, losses), "out", {"batch x window x vocabulary"});
}

TEST_F(Api, ParametersAreReadWrittenAndExported) {
  Engine engine = made(options()), other = made(options());
  trained(engine, 3);
  ASSERT_EQ(engine.parameters().front().name, "embedding.weight");
  for (const ParameterInfo& p : engine.parameters()) {
    const std::int64_t elements = std::accumulate(p.shape.begin(), p.shape.end(), std::int64_t{1}, std::multiplies<>());
    std::vector<float> values(static_cast<std::size_t>(elements));
    ASSERT_TRUE(engine.read_parameter(p.name, values)) << p.name;
    EXPECT_EQ(engine.allocations_since_construction(), 0u) << p.name;
    ASSERT_TRUE(other.write_parameter(p.name, values)) << p.name;
  }
  EXPECT_EQ(other.evaluate(text(90)).value(), engine.evaluate(text(90)).value());  // equal seeds, hence wiring
  std::vector<float> gain(64, NAN);
  expect_refused(other.write_parameter("broca.gain", gain), "values", {"not finite"});
  expect_refused(other.write_parameter("broca.gain", std::span(gain).first(3)), "values", {"values has 3 elements", "[64]"});
  expect_refused(other.read_parameter("broca.loss", gain), "name", {"name is \"broca.loss\""});
  const std::string file = directory_.path("w.safetensors");
  ASSERT_TRUE(engine.export_weights(file));
  EngineOptions from = options();
  from.init = file;
  EXPECT_EQ(made(from).evaluate(text(90)).value(), engine.evaluate(text(90)).value());
}

}  // namespace
}  // namespace neurogen

// The engine on a GPU, only through its public header, compared with the engine on a CPU.
#include <gtest/gtest.h>
#include <neurogen/engine.h>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using Ids = std::vector<std::int32_t>;

class CudaApi : public testing::Test {
 protected:
  void SetUp() override {
    directory_.file("brain.json", kTestBrain);
    if (made(Device::automatic).device().starts_with("cpu")) GTEST_SKIP() << "there is no GPU here";
  }
  Engine made(Device device, const std::string& checkpoint = "") const {
    EngineOptions o;
    o.architecture = directory_.path("brain.json");
    o.device = device;
    o.batch = 2;
    o.window = 32;
    o.compute = Compute::fp32, o.decoder_storage = DecoderStorage::fp32;
    o.checkpoint = checkpoint;
    Result<Engine> engine = Engine::create(o);
    if (!engine) ADD_FAILURE() << engine.failure().sentence;
    return std::move(engine).value();
  }
  // A simple text: each token says much about the next.
  static Ids text(std::size_t tokens, std::size_t from = 0) {
    Ids ids(tokens);
    for (std::size_t i = 0; i < tokens; ++i) ids[i] = static_cast<std::int32_t>((i + from) * 7 % 50);
    return ids;
  }
  static double trained(Engine& engine, std::size_t steps) {
    double loss = 0;
    for (std::size_t i = 0; i < steps; ++i) loss = engine.train_step_batch(text(64, i), text(64, i + 1)).value().loss;
    return loss;
  }

  TemporaryDirectory directory_;
};

TEST_F(CudaApi, LearnsEvaluatesAndSpeaksAsACpuDoes) {
  Engine engine = made(Device::cuda);
  EXPECT_EQ(engine.vocabulary(), 300);
  trained(engine, 60);
  ASSERT_TRUE(engine.save(directory_.path("learned.ngck")));
  Engine cpu = made(Device::cpu, directory_.path("learned.ngck"));
  EXPECT_EQ(cpu.steps(), 60);

  const Ids held_out = text(200, 1000);
  EXPECT_LT(engine.evaluate(held_out).value(), 3.5);
  EXPECT_NEAR(engine.evaluate(held_out).value(), cpu.evaluate(held_out).value(), 1e-4);
  Sampling likeliest;
  likeliest.temperature = 0;
  Ids said(10), said_by_cpu(10);
  ASSERT_EQ(engine.generate(text(20), said, likeliest).value(), said.size());
  ASSERT_EQ(cpu.generate(text(20), said_by_cpu, likeliest).value(), said.size());
  EXPECT_EQ(said, said_by_cpu);
  EXPECT_EQ(said, text(10, 20));

  // A step of each, then back to the file: the same loss, bit for bit.
  const double loss = trained(engine, 1);
  EXPECT_NEAR(loss, trained(cpu, 1), 1e-4);
  ASSERT_TRUE(engine.load(directory_.path("learned.ngck")));
  EXPECT_EQ(trained(engine, 1), loss);
}

TEST_F(CudaApi, ShowsWhatACpuShows) {
  Engine engine = made(Device::cuda);
  trained(engine, 3);
  ASSERT_TRUE(engine.save(directory_.path("three.ngck")));
  Engine cpu = made(Device::cpu, directory_.path("three.ngck"));
  for (Engine* e : {&engine, &cpu}) ASSERT_TRUE(e->evaluate(text(65)));  // one batch
  for (const std::string_view module : engine.modules()) {
    const auto width = static_cast<std::size_t>(engine.outputs(module).value());
    std::vector<float> out(width * 64), out_of_cpu(width * 64);
    ASSERT_TRUE(engine.read_output(module, out));
    ASSERT_TRUE(cpu.read_output(module, out_of_cpu));
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], out_of_cpu[i], 1e-3) << module << " " << i;
  }
  const Result<std::span<const float>> row = engine.embedding_row(14);
  ASSERT_FALSE(row.ok());
  EXPECT_NE(row.failure().sentence.find("read_embedding_row"), std::string::npos);
  std::vector<float> copy(static_cast<std::size_t>(engine.embedding_width()));
  ASSERT_TRUE(engine.read_embedding_row(14, copy));
  const std::span<const float> there = cpu.embedding_row(14).value();
  EXPECT_TRUE(std::equal(copy.begin(), copy.end(), there.begin(), there.end()));
}

TEST_F(CudaApi, AsksForNoMemoryAfterwards) {
  Engine engine = made(Device::cuda), other = made(Device::cuda);
  trained(engine, 1), trained(other, 1);
  const std::uint64_t before = engine.allocations_since_construction();
  trained(engine, 20);
  ASSERT_TRUE(engine.evaluate(text(200)));
  EXPECT_EQ(engine.allocations_since_construction(), before);
  trained(other, 20);
  EXPECT_EQ(engine.evaluate(text(200)).value(), other.evaluate(text(200)).value());
}

}  // namespace
}  // namespace neurogen

// Plans, and the sentences of refusals and failures.
#include <cmath>

#include "tests/api/engines.h"

namespace neurogen {
namespace {

TEST_F(Api, RefusesInSentences) {
  const auto refused = [&](auto change, const char* field, std::initializer_list<const char*> parts) {
    EngineOptions o = options();
    change(o);
    expect_refused(Engine::create(o), field, parts);
  };
  refused([](auto& o) { o.architecture = "huge"; }, "architecture", {"architecture is \"huge\": use full, small"});
  refused([](auto& o) { o.batch = -1; }, "batch", {"batch is -1: use 1 to 1048576 sequences, or 0"});
  refused([](auto& o) { o.window = 0; }, "window", {"window is 0: use 1 to 1048576 tokens"});
  refused([](auto& o) { o.threads = -1; }, "threads", {"threads is -1: use 1 to 1024"});
  refused([](auto& o) { o.decoder_tile = 0; }, "decoder_tile", {"decoder_tile is 0"});
  refused([](auto& o) { o.document_end = 300; }, "document_end", {"document_end is 300", "300, or -1 for none"});
  refused([](auto& o) { o.device = static_cast<Device>(3); }, "device", {"device is 3: use automatic, cpu or cuda"});
  refused([](auto& o) { o.device = Device::cuda, o.gpu = -1; }, "gpu", {"gpu is -1: use 0 to 65536"});
  refused([](auto& o) { o.device = Device::cuda, o.gpu = 65536; }, "device", {"device cuda:65536: this", "use device cpu"});
  refused([](auto& o) { o.compute = Compute::bf16; }, "compute", {"compute bf16 needs a GPU: use compute fp32 on a CPU"});
  refused([](auto& o) { o.compute = static_cast<Compute>(-1); }, "compute", {"compute is -1: use automatic, fp32"});
  refused([](auto& o) { o.decoder_storage = DecoderStorage::sixteen_bits; }, "decoder_storage", {"needs a GPU"});
  refused([](auto& o) { o.decoder_storage = static_cast<DecoderStorage>(9); }, "decoder_storage", {"decoder_storage is 9"});
  refused([](auto& o) { o.budget = 1'000'000; }, "budget", {"does not fit into 1,000,000 bytes: use a budget of at least"});
  refused([](auto& o) { o.overhead = UINT64_MAX; }, "", {"do not fit 64 bits"});
  refused([](auto& o) { o.rates.learning_rate = -1; }, "learning_rate", {"learning_rate is -1: use a rate from 0 to 1000"});
  refused([](auto& o) { o.rates.synapse_rate = 2000; }, "synapse_rate", {"synapse_rate is 2000"});
  refused([](auto& o) { o.rates.warmup = -1; }, "warmup", {"warmup is -1"});
  refused([](auto& o) { o.steps = -1; }, "steps", {"steps is -1"});
  refused([](auto& o) { o.checkpoint = "a", o.init = "b"; }, "init", {"init and checkpoint exclude each other"});
  refused([&](auto& o) { o.init = directory_.path("brain.json"); }, "", {"brain.json"});
  refused([&](auto& o) { o.checkpoint = directory_.path("none"); }, "", {"none"});

  Engine engine = made(options());
  const double expected = trained(engine, 2);
  Engine other = made(options());
  trained(other, 1);
  std::vector<float> few(3);
  expect_refused(other.read_output("cerebellum", few), "module", {"module is \"cerebellum\": use thalamus", "broca"});
  expect_refused(other.read_output("broca", few), "out", {"out has 3 elements", "3072"});
  expect_refused(other.outputs(""), "module", {"module is \"\""});
  expect_refused(other.embedding_row(300), "id", {"id is 300", "0 to 299"});
  expect_refused(other.embedding_row(-1), "id", {"id is -1"});
  expect_refused(other.read_embedding_row(1, few), "out", {"out has 3 elements"});
  Batch b = batch(other);
  expect_refused(other.train_step_batch(Ids(47), b.targets), "input_ids", {"input_ids has 47 elements", "48"});
  expect_refused(other.train_step_batch(b.inputs, Ids(49)), "target_ids", {"target_ids has 49 elements"});
  expect_refused(other.train_step_batch(b.inputs, Ids(48, -1)), "target_ids", {"all -1"});
  b.inputs[7] = 300;
  expect_refused(other.train_step_batch(b.inputs, b.targets), "input_ids", {"input_ids[7] is 300", "0 to 299"});
  b = batch(other);
  b.targets[9] = 300;
  expect_refused(other.train_step_batch(b.inputs, b.targets), "target_ids", {"target_ids[9] is 300", "-1 to 299"});
  b.targets[9] = -2;
  expect_refused(other.train_step_batch(b.inputs, b.targets), "target_ids", {"target_ids[9] is -2"});
  expect_refused(other.evaluate(Ids(1)), "ids", {"two tokens"});
  Ids said(4);
  expect_refused(other.generate({}, said), "prompt", {"prompt"});
  Sampling wrong;
  wrong.top_p = 2;
  expect_refused(other.generate(Ids{1}, said, wrong), "top_p", {"top_p is 2: use 0 to 1"});
  expect_refused(other.load(directory_.path("none")), "", {"none"});
  expect_refused(other.load(directory_.path("brain.json")), "", {"brain.json"});
  const Status unsaved = other.save(directory_.path("no/such/directory"));
  ASSERT_FALSE(unsaved.ok());
  EXPECT_FALSE(unsaved.failure().refused);
  EXPECT_NE(unsaved.failure().sentence.find("No such file"), std::string::npos) << unsaved.failure().sentence;
  expect_refused(other.save(""), "", {"name"});
  EXPECT_FALSE(other.save(directory_.path("")).ok());
  EXPECT_EQ(trained(other, 1, 1), expected);  // nothing was lost
}

TEST_F(Api, SaysWhenLearningFails) {
  EngineOptions o = options();
  o.rates.learning_rate = o.rates.table_rate = o.rates.decoder_rate = 1e3;
  o.rates.warmup = 0;
  Engine engine = made(o);
  const std::string good = directory_.path("good.ngck");
  ASSERT_TRUE(engine.save(good));
  Result<TrainingStepReport> result = TrainingStepReport{};
  for (int i = 0; result.ok() && i < 50; ++i) {
    const Batch b = batch(engine, i);
    result = engine.train_step_batch(b.inputs, b.targets);
  }
  if (!result.ok()) {
    EXPECT_FALSE(result.failure().refused);
    EXPECT_NE(result.failure().sentence.find("not finite: train with a lower learning_rate"), std::string::npos);
    EXPECT_EQ(result.failure().field, "learning_rate");
  }
  EXPECT_TRUE(engine.load(good));
  EXPECT_NEAR(engine.evaluate(text(90)).value(), std::log(300), 0.5);
}

TEST_F(Api, PlansItsMemory) {
  Engine engine = made(options());
  const MemoryPlan& plan = engine.plan();
  EXPECT_EQ(plan.total, plan.device_arena + plan.host_arena + plan.overhead);
  EXPECT_EQ(plan.budget, 3'200'000'000u);
  EXPECT_NE(plan.table.find("embedding.weight"), std::string::npos);
  EXPECT_NE(plan.json.find("\"device_arena_bytes\":" + std::to_string(plan.device_arena)), std::string::npos);
  EngineOptions least = options();
  least.budget = plan.minimum;
  trained(*std::make_unique<Engine>(made(least)), 1);
  least.budget = plan.minimum - 1;
  expect_refused(Engine::create(least), "budget", {"does not fit", std::to_string(plan.minimum).c_str()});
}

TEST_F(Api, PlansWithoutTakingMemory) {
  const Result<MemoryPlan> plan = Engine::plan(options());
  ASSERT_TRUE(plan);
  const Engine engine = made(options());
  EXPECT_EQ(plan->json, engine.plan().json);
  EXPECT_EQ(plan->table, engine.plan().table);
  EXPECT_TRUE(plan->fits);
  EngineOptions small = options();
  small.overhead = 1'000'000;
  small.budget = Engine::plan(small)->minimum - 1;
  const Result<MemoryPlan> refused = Engine::plan(small);
  EXPECT_FALSE(refused->fits);
  EXPECT_NE(refused->refusal.find("settings that would fit"), std::string::npos);
  EXPECT_NE(refused->refusal.find("\n  window 24 batch 1\n"), std::string::npos) << refused->refusal;
  const std::string what = refused->refusal.substr(0, refused->refusal.find(": "));
  EXPECT_EQ(Engine::create(small).failure().sentence.find(what + ": use a budget of at least "), 0u) << what;
  EngineOptions elsewhere = options();
  elsewhere.device = Device::cuda;  // present or not
  EXPECT_GT(Engine::plan(elsewhere)->total, 0u);
  elsewhere.batch = -1;
  EXPECT_FALSE(Engine::plan(elsewhere));
  EXPECT_EQ(Engine::plan(elsewhere).value_or(MemoryPlan{}).total, 0u);
  EngineOptions as_many = options(0);
  as_many.budget = 200'000'000;
  EXPECT_EQ(Engine::plan(as_many)->batch, 32);
  EXPECT_STREQ(version(), NEUROGEN_VERSION);
}

TEST_F(Api, ReadsSizes) {
  EXPECT_EQ(parse_bytes("3200M").value(), 3'200'000'000u);
  EXPECT_EQ(parse_bytes("2Gi").value(), 2u << 30);
  expect_refused(parse_bytes("lots"), "text", {"text \"lots\" is not a size"});
  expect_refused(parse_bytes("-1", "budget"), "budget", {"budget \"-1\" is not a size"});
}

}  // namespace
}  // namespace neurogen

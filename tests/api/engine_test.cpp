// The engine only through its public header, as the shared library offers it to any program.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <neurogen/engine.h>
#include <signal.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using Ids = std::vector<std::int32_t>;

class Api : public testing::Test {
 protected:
  Api() { directory_.file("brain.json", kTestBrain); }

  EngineOptions options(std::int64_t batch = 2, std::int64_t window = 24) const {
    EngineOptions o;
    o.architecture = directory_.path("brain.json");
    o.device = "cpu";
    o.threads = 2;
    o.batch = std::to_string(batch);
    o.window = window;
    return o;
  }
  static Engine made(const EngineOptions& options) {
    Result<Engine> engine = Engine::create(options);
    if (!engine) ADD_FAILURE() << engine.failure().sentence;
    return std::move(engine).value();
  }
  // A simple text: each token says much about the next.
  static Ids text(std::int64_t tokens, int from = 0) {
    Ids ids(static_cast<std::size_t>(tokens));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>((i + static_cast<std::size_t>(from)) * 7 % 50);
    return ids;
  }
  struct Batch {
    Ids inputs, targets;
  };
  static Batch batch(const Engine& engine, int from = 0) {
    const std::int64_t tokens = engine.plan().batch * engine.plan().window;
    return {text(tokens, from), text(tokens, from + 1)};
  }
  static double trained(Engine& engine, int steps, int first = 0) {
    double loss = 0;
    for (int i = 0; i < steps; ++i) {
      const Batch b = batch(engine, first + i);
      const Result<TrainingStepReport> result = engine.train_step_batch(b.inputs, b.targets);
      if (!result) ADD_FAILURE() << result.failure().sentence;
      else loss = result->loss;
    }
    return loss;
  }
  template <typename Value>
  static void expect_refused(const Result<Value>& result, std::initializer_list<const char*> parts) {
    ASSERT_FALSE(result.ok());
    EXPECT_TRUE(result.failure().refused);
    const std::string& sentence = result.failure().sentence;
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
    EXPECT_EQ(sentence.find("--"), std::string::npos) << sentence;
    for (const char* part : parts) EXPECT_NE(sentence.find(part), std::string::npos) << sentence << "\nlacks: " << part;
  }

  TemporaryDirectory directory_;
};

TEST_F(Api, LearnsFromBatches) {
  Engine engine = made(options());
  EXPECT_EQ(engine.vocabulary(), 300);
  EXPECT_EQ(engine.device(), "cpu, 2 threads");
  const Ids held_out = text(200, 1000);
  const double before = engine.evaluate(held_out).value();
  EXPECT_NEAR(before, std::log(300), 0.5);
  trained(engine, 60);
  EXPECT_EQ(engine.steps(), 60);
  EXPECT_LT(engine.evaluate(held_out).value(), before - 2);
  // It generates what it has learned: token i + 1 is token i + 7.
  Ids said(10);
  Sampling likeliest;
  likeliest.temperature = 0;
  ASSERT_EQ(engine.generate(text(20), said, likeliest).value(), said.size());
  EXPECT_EQ(said, text(10, 20));
}

// The command line trains on the same batches to the same bits, and each resumes from the other's checkpoint.
TEST_F(Api, EqualsTheCommandLine) {
  const std::int64_t window = 24;
  const Ids ids = text(window + 1);
  std::string bytes;
  for (const std::int32_t id : ids) bytes += {static_cast<char>(id & 255), static_cast<char>(id >> 8)};
  directory_.file("text.bin", bytes);
  EngineOptions o = options(1, window);
  o.steps = 8;
  o.seed = 5;
  Engine engine = made(o);
  const std::span<const std::int32_t> all = ids;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(engine.train_step_batch(all.first(ids.size() - 1), all.subspan(1)));
  ASSERT_TRUE(engine.save(directory_.path("four.ngck")));
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(engine.train_step_batch(all.first(ids.size() - 1), all.subspan(1)));
  ASSERT_TRUE(engine.save(directory_.path("eight.ngck")));

  const std::string train =
      "neurogen-engine train --arch brain.json --device cpu --data text.bin --batch 1 --seq 24 --steps 8 --seed 5 "
      "--checkpoint-dir run --save-every 4 --keep 9";
  const ProgramResult run = run_program_in(directory_, train);
  ASSERT_EQ(run.status, 0) << run.err;
  const auto weights = [&](const std::string& checkpoint) {
    const ProgramResult result =
        run_program_in(directory_, "neurogen-engine export --checkpoint " + checkpoint + " --safetensors w");
    EXPECT_EQ(result.status, 0) << result.err;
    return read_file(directory_.path("w"));
  };
  EXPECT_EQ(weights("eight.ngck"), weights("run/step-000000008.ngck"));
  EXPECT_NE(weights("eight.ngck"), weights("four.ngck"));

  o.steps = 0;  // taken from the file
  o.checkpoint = directory_.path("run/step-000000004.ngck");
  Engine next = made(o);
  EXPECT_EQ(next.steps(), 4);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(next.train_step_batch(all.first(ids.size() - 1), all.subspan(1)));
  ASSERT_TRUE(next.save(directory_.path("next.ngck")));
  EXPECT_EQ(weights("next.ngck"), weights("eight.ngck"));
}

TEST_F(Api, GoesOnFromWhatItSaved) {
  Engine engine = made(options());
  trained(engine, 5);
  const std::string file = directory_.path("saved.ngck");
  ASSERT_TRUE(engine.save(file));
  const double on = trained(engine, 3, 5);
  Engine other = made(options());
  ASSERT_TRUE(other.load(file));
  EXPECT_EQ(other.steps(), 5);
  EXPECT_EQ(trained(other, 3, 5), on);
  ASSERT_TRUE(other.load(file));  // back again
  EXPECT_EQ(trained(other, 3, 5), on);

  // Only weights: the optimizers' state starts at zero. BrainShape and types are the file's.
  EngineOptions fresh = options();
  fresh.architecture = "auto";
  fresh.init = file;
  Engine third = made(fresh);
  EXPECT_EQ(third.steps(), 0);
  EXPECT_EQ(third.vocabulary(), 300);
  ASSERT_TRUE(other.load(file));
  EXPECT_EQ(third.evaluate(text(90)).value(), other.evaluate(text(90)).value());
  EXPECT_NE(trained(third, 3, 5), on);
  EXPECT_EQ(directory_.files(), 2u);  // no other file is left
}

TEST_F(Api, AllocatesNothingAfterwards) {
  Engine engine = made(options());
  EXPECT_EQ(engine.allocations_since_construction(), 0u);
  const Batch b = batch(engine);
  Ids said(40);
  const Ids prompt = text(10);
  std::vector<float> outputs(static_cast<std::size_t>(engine.outputs("broca").value() * 48)), row(32);
  const std::string file = directory_.path("saved.ngck");
  Sampling sampling;
  sampling.top_k = 20, sampling.top_p = 0.9, sampling.repetition_penalty = 1.1;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(engine.train_step_batch(b.inputs, b.targets));
    ASSERT_TRUE(engine.evaluate(b.inputs));
    ASSERT_TRUE(engine.generate(prompt, said, sampling));
    ASSERT_TRUE(engine.read_output("broca", outputs));
    ASSERT_TRUE(engine.embedding_row(3));
    ASSERT_TRUE(engine.read_embedding_row(3, row));
    ASSERT_TRUE(engine.save(file));
    EXPECT_EQ(engine.allocations_since_construction(), 0u) << "in round " << i;
  }
  // The counter attributes: another engine's memory is not this one's, its own is.
  Engine other = made(options());
  EXPECT_EQ(engine.allocations_since_construction(), 0u);
  ASSERT_TRUE(engine.load(file));
  EXPECT_GT(engine.allocations_since_construction(), 0u);
  EXPECT_EQ(other.allocations_since_construction(), 0u);
  EXPECT_FALSE(other.evaluate({}));
  EXPECT_EQ(other.allocations_since_construction(), 1u);  // the exception
}

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

TEST_F(Api, PlansItsMemory) {
  Engine engine = made(options());
  const MemoryPlan& plan = engine.plan();
  EXPECT_EQ(plan.total, plan.device_arena + plan.host_arena + plan.overhead);
  EXPECT_EQ(plan.budget, 3'200'000'000u);
  EXPECT_NE(plan.table.find("embedding.weight"), std::string::npos);
  EXPECT_NE(plan.json.find("\"device_arena_bytes\":" + std::to_string(plan.device_arena)), std::string::npos);
  EngineOptions least = options();
  least.budget = std::to_string(plan.minimum);
  trained(*std::make_unique<Engine>(made(least)), 1);
  least.budget = std::to_string(plan.minimum - 1);
  expect_refused(Engine::create(least), {"does not fit", std::to_string(plan.minimum).c_str()});
}

TEST_F(Api, TwoEnginesInOneProcess) {
  Engine alone = made(options());
  const double expected = trained(alone, 6);
  Engine one = made(options()), two = made(options());
  EXPECT_EQ(trained(one, 3), trained(two, 3));
  EXPECT_EQ(trained(one, 3, 3), expected);  // in turns
  double elsewhere = 0;                     // from another thread, while a third engine works
  Engine three = made(options());
  std::thread thread([&] { elsewhere = trained(two, 3, 3); });
  EXPECT_EQ(trained(three, 6), expected);
  thread.join();
  EXPECT_EQ(elsewhere, expected);
  EXPECT_EQ(two.allocations_since_construction() + three.allocations_since_construction(), 0u);
  one = std::move(two);
  trained(one, 1, 6);
}

TEST_F(Api, AnEngineThatIsReplacedGivesItsMemoryBack) {
  const auto mapped = [] {
    std::ifstream file("/proc/self/statm");
    std::int64_t pages = 0;
    file >> pages;
    return pages * 4096;
  };
  Engine one = made(options()), two = made(options());
  const auto arenas = static_cast<std::int64_t>(one.plan().device_arena + one.plan().host_arena);
  const std::int64_t before = mapped();
  one = std::move(two);  // it lives on, empty
  EXPECT_LE(mapped(), before - arenas / 10 * 9);
  trained(one, 1);
  Engine& same = one;
  one = std::move(same);
  trained(one, 1);
}

TEST_F(Api, SavesUnderEveryNameAndThroughLinks) {
  Engine engine = made(options());
  trained(engine, 1);
  for (const std::size_t length : {1, 249, 255}) {
    const std::string name = directory_.path(std::string(length, 'n'));
    ASSERT_TRUE(engine.save(name));
    EXPECT_TRUE(engine.load(name));
  }
  const Status refused = engine.save(directory_.path(std::string(256, 'n')));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.failure().sentence.find("File name too long"), std::string::npos) << refused.failure().sentence;
  std::filesystem::create_symlink("target", directory_.path("link"));  // its target does not exist yet
  ASSERT_TRUE(engine.save(directory_.path("link")));
  EXPECT_TRUE(std::filesystem::is_symlink(directory_.path("link")));
  EXPECT_TRUE(engine.load(directory_.path("target")));
}

TEST_F(Api, RefusesInSentences) {
  const auto refused = [&](auto change, std::initializer_list<const char*> parts) {
    EngineOptions o = options();
    change(o);
    expect_refused(Engine::create(o), parts);
  };
  refused([](auto& o) { o.architecture = "huge"; }, {"huge"});
  refused([](auto& o) { o.batch = "0"; }, {"batch is \"0\""});
  refused([](auto& o) { o.window = 0; }, {"window is 0"});
  refused([](auto& o) { o.device = "tpu"; }, {"device is \"tpu\""});
  refused([](auto& o) { o.budget = "lots"; }, {"budget"});
  refused([](auto& o) { o.budget = "1M"; }, {"does not fit into 1,000,000 bytes", "at least"});
  refused([](auto& o) { o.rates.learning_rate = -1; }, {"learning_rate is -1"});
  refused([](auto& o) { o.steps = -1; }, {"steps is -1"});
  refused([](auto& o) { o.checkpoint = "a", o.init = "b"; }, {"exclude each other"});
  refused([&](auto& o) { o.init = directory_.path("brain.json"); }, {"brain.json"});
  refused([&](auto& o) { o.checkpoint = directory_.path("none"); }, {"none"});

  Engine engine = made(options());
  const double expected = trained(engine, 2);
  Engine other = made(options());
  trained(other, 1);
  std::vector<float> few(3);
  expect_refused(other.read_output("cerebellum", few), {"no module cerebellum", "broca"});
  expect_refused(other.read_output("broca", few), {"out has 3 elements", "3072"});
  expect_refused(other.outputs(""), {"no module"});
  expect_refused(other.embedding_row(300), {"id is 300", "0 to 299"});
  expect_refused(other.embedding_row(-1), {"id is -1"});
  expect_refused(other.read_embedding_row(1, few), {"out has 3 elements"});
  Batch b = batch(other);
  expect_refused(other.train_step_batch(few.empty() ? Ids{} : Ids(47), b.targets), {"input_ids has 47 elements", "48"});
  expect_refused(other.train_step_batch(b.inputs, Ids(49)), {"target_ids has 49 elements"});
  expect_refused(other.train_step_batch(b.inputs, Ids(48, -1)), {"all -1"});
  b.inputs[7] = 300;
  expect_refused(other.train_step_batch(b.inputs, b.targets), {"input_ids[7] is 300", "0 to 299"});
  b = batch(other);
  b.targets[9] = 300;
  expect_refused(other.train_step_batch(b.inputs, b.targets), {"target_ids[9] is 300", "-1 to 299"});
  b.targets[9] = -2;
  expect_refused(other.train_step_batch(b.inputs, b.targets), {"target_ids[9] is -2"});
  expect_refused(other.evaluate(Ids(1)), {"two tokens"});
  Ids said(4);
  expect_refused(other.generate({}, said), {"prompt"});
  Sampling wrong;
  wrong.top_p = 2;
  expect_refused(other.generate(Ids{1}, said, wrong), {"top-p is 2"});
  expect_refused(other.load(directory_.path("none")), {"none"});
  expect_refused(other.load(directory_.path("brain.json")), {"brain.json"});
  const Status unsaved = other.save(directory_.path("no/such/directory"));
  ASSERT_FALSE(unsaved.ok());
  EXPECT_FALSE(unsaved.failure().refused);
  EXPECT_NE(unsaved.failure().sentence.find("No such file"), std::string::npos) << unsaved.failure().sentence;
  expect_refused(other.save(""), {"name"});
  EXPECT_FALSE(other.save(directory_.path("")).ok());
  EXPECT_EQ(trained(other, 1, 1), expected);  // nothing was lost
}

// Another thread rewrites the checkpoint again and again while it is read: loading may fail, but never raise a signal.
TEST_F(Api, OutlivesAFileThatIsCutShort) {
  Engine engine = made(options());
  const std::string file = directory_.path("file.ngck");
  ASSERT_TRUE(engine.save(file));
  const std::string whole = read_file(file);
  EngineOptions from = options();
  from.checkpoint = file;
  std::atomic<bool> ended = false;
  std::jthread writer([&] {
    const std::size_t half = whole.size() / 2;
    while (!ended) {
      std::filesystem::resize_file(file, half);
      std::fstream(file, std::ios::binary | std::ios::in | std::ios::out | std::ios::ate)
          .write(whole.data() + half, static_cast<std::streamsize>(half));
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  int failed = 0;
  for (int i = 0; i < 100; ++i) {
    failed += !engine.load(file).ok();
    if (i % 50 == 0) static_cast<void>(Engine::create(from));
  }
  ended = true;
  writer.join();
  EXPECT_GT(failed, 0);
  directory_.file("file.ngck", whole);
  EXPECT_TRUE(engine.load(file));
  trained(engine, 1);
}

TEST_F(Api, PlansWithoutTakingMemory) {
  const Result<MemoryPlan> plan = Engine::plan(options());
  ASSERT_TRUE(plan);
  const Engine engine = made(options());
  EXPECT_EQ(plan->json, engine.plan().json);
  EXPECT_EQ(plan->table, engine.plan().table);
  EXPECT_TRUE(plan->fits);
  EngineOptions small = options();
  small.overhead = "1M";
  small.budget = std::to_string(Engine::plan(small)->minimum - 1);
  EXPECT_FALSE(Engine::plan(small)->fits);
  EXPECT_NE(Engine::plan(small)->refusal.find("settings that would fit"), std::string::npos);
  EngineOptions elsewhere = options();
  elsewhere.device = "cuda";  // present or not
  EXPECT_GT(Engine::plan(elsewhere)->total, 0u);
  elsewhere.batch = "none";
  EXPECT_FALSE(Engine::plan(elsewhere));
  EXPECT_EQ(Engine::plan(elsewhere).value_or(MemoryPlan{}).total, 0u);
  EXPECT_STREQ(version(), NEUROGEN_VERSION);
}

TEST_F(Api, AStepSaysWhatItDid) {
  EngineOptions o = options();
  o.rates.warmup = 2;
  Engine engine = made(o);
  const Batch b = batch(engine);
  const auto first = engine.train_step_batch(b.inputs, b.targets), second = engine.train_step_batch(b.inputs, b.targets);
  ASSERT_TRUE(first && second);
  EXPECT_GT(first->gradient_norm, 0);
  EXPECT_NEAR(first->learning_rate, 4e-3 / 2, 1e-9);  // a brain's
  EXPECT_NEAR(second->learning_rate, 4e-3, 1e-9);
  EXPECT_FALSE(second->skipped);
}

TEST_F(Api, ATransformerHasItsOwnRatesAndOptimizer) {
  const std::string file = directory_.file("t.json", R"({"family": "transformer", "vocabulary": 300, "width": 64, "layers": 2,
    "heads": 4, "hidden": 128, "context": 32, "norm": "layer", "positions": "learned", "activation": "gelu_tanh", "qk_norm": false,
    "qkv_bias": true, "bias": true, "tied": true, "embedding_norm": false})");
  EngineOptions o = options();
  o.architecture = file, o.rates.warmup = 0;
  Engine engine = made(o);
  const Batch b = batch(engine);
  EXPECT_NEAR(engine.train_step_batch(b.inputs, b.targets)->learning_rate, 1e-3, 1e-9);  // AdamW's
  const double before = engine.evaluate(text(90)).value();
  trained(engine, 40);
  EXPECT_LT(engine.evaluate(text(90)).value(), before - 1);
  EXPECT_EQ(engine.modules(), (std::vector<std::string_view>{"layers.0", "layers.1"}));
  Ids said(10);
  EXPECT_EQ(engine.generate(text(20), said).value(), 10u);
  Ids long_said(40);  // beyond the positions that it knows
  expect_refused(engine.generate(text(20), long_said), {"longer than the 32 positions"});
  ASSERT_TRUE(engine.save(directory_.path("saved")));
  Engine again = made(o);
  EXPECT_TRUE(again.load(directory_.path("saved")));
  EXPECT_EQ(again.evaluate(text(90)).value(), engine.evaluate(text(90)).value());
  o.optimizer = "muon";
  expect_refused(Engine::create(o), {"optimizer is muon", "learns by adamw"});
  o.architecture = directory_.path("brain.json"), o.optimizer = "adamw";
  expect_refused(Engine::create(o), {"optimizer is adamw", "learns by muon"});
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
  expect_refused(engine.losses(b.inputs, b.targets, std::span(losses).first(9)), {"out has 9 elements"});
  expect_refused(engine.logits(b.inputs, losses), {"batch x window x vocabulary"});
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
  expect_refused(other.write_parameter("broca.gain", gain), {"not finite"});
  expect_refused(other.write_parameter("broca.gain", std::span(gain).first(3)), {"values has 3 elements", "[64]"});
  expect_refused(other.read_parameter("broca.loss", gain), {"there is no parameter broca.loss"});
  const std::string file = directory_.path("w.safetensors");
  ASSERT_TRUE(engine.export_weights(file));
  EngineOptions from = options();
  from.init = file;
  EXPECT_EQ(made(from).evaluate(text(90)).value(), engine.evaluate(text(90)).value());
}

TEST_F(Api, SpeaksTokenByToken) {
  Engine engine = made(options());
  trained(engine, 3);
  std::vector<std::int32_t> whole(20), some;
  ASSERT_EQ(engine.generate(text(5), whole).value(), 20u);
  ASSERT_TRUE(engine.generate(text(5), [&](std::int32_t token) { return some.push_back(token), some.size() < 7; }));
  EXPECT_EQ(some, std::vector<std::int32_t>(whole.begin(), whole.begin() + 7));
}

TEST_F(Api, SaysWhenLearningFails) {
  EngineOptions o = options();
  o.rates.learning_rate = o.rates.table = o.rates.decoder = 1e3;
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
  }
  EXPECT_TRUE(engine.load(good));
  EXPECT_NEAR(engine.evaluate(text(90)).value(), std::log(300), 0.5);
}

TEST_F(Api, LeavesItsProcessAlone) {
  const auto handler = [](int signal) {
    struct sigaction action;
    sigaction(signal, nullptr, &action);
    return action.sa_handler;
  };
  void* const products = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);  // as the process may load it for itself
  ASSERT_NE(products, nullptr);
  const auto set_threads = reinterpret_cast<void (*)(int)>(dlsym(products, "openblas_set_num_threads"));
  const auto threads = reinterpret_cast<int (*)()>(dlsym(products, "openblas_get_num_threads"));
  set_threads(2);
  Engine engine = made(options());
  EXPECT_EQ(threads(), 2);
  trained(engine, 1);
  EXPECT_EQ(threads(), 2);
  for (const int signal : {SIGINT, SIGTERM, SIGBUS, SIGXFSZ}) EXPECT_EQ(handler(signal), SIG_DFL) << signal;
  EXPECT_EQ(std::getenv("OPENBLAS_CORETYPE"), nullptr);
  EXPECT_EQ(std::getenv("OPENBLAS_NUM_THREADS"), nullptr);
}

}  // namespace
}  // namespace neurogen

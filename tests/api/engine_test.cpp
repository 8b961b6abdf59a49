// The engine only through its public header: training, checkpoints, memory, and the process around it.
#include <dlfcn.h>
#include <signal.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/api/engines.h"

namespace neurogen {
namespace {

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

TEST_F(Api, TakesAStepInSeveralMicroBatches) {
  EngineOptions parts = options(2);
  parts.accumulate = 3;
  Engine engine = made(parts), whole = made(options(6));
  EXPECT_EQ(engine.plan().accumulate, 3);
  const Batch all = batch(whole), third = batch(engine);
  for (int i = 0; i < 3; ++i) {
    const Result<TrainingStepReport> expected = whole.train_step_batch(all.inputs, all.targets);
    const Result<TrainingStepReport> got = engine.train_step_batch(all.inputs, all.targets);
    ASSERT_TRUE(expected && got);
    EXPECT_NEAR(got->loss, expected->loss, 1e-4);
    EXPECT_NEAR(got->gradient_norm, expected->gradient_norm, 1e-3 * expected->gradient_norm);
  }
  EXPECT_EQ(engine.allocations_since_construction(), 0u);
  expect_refused(engine.train_step_batch(third.inputs, third.targets), "input_ids", {"48 elements", "144", "accumulate x batch"});
  std::vector<float> losses(third.inputs.size());
  EXPECT_TRUE(engine.losses(third.inputs, third.targets, losses));
  parts.accumulate = 0;
  expect_refused(Engine::create(parts), "accumulate", {"use 1 to"});
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
  EXPECT_GT(other.allocations_since_construction(), 0u);  // the sentence
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
  for (int i = 0; i < 100 || (failed == 0 && i < 10'000); ++i) {  // on a busy machine the two may long miss each other
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

TEST_F(Api, AStepSaysWhatItDid) {
  EngineOptions o = options();
  o.rates.warmup = 2;
  Engine engine = made(o);
  const Batch b = batch(engine);
  const auto first = engine.train_step_batch(b.inputs, b.targets), second = engine.train_step_batch(b.inputs, b.targets);
  ASSERT_TRUE(first && second);
  EXPECT_GT(first->gradient_norm, 0);
  EXPECT_NEAR(first->learning_rate, 4e-3 / 2, 1e-9);
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
  expect_refused(engine.generate(text(20), long_said), "", {"longer than the 32 positions"});
  ASSERT_TRUE(engine.save(directory_.path("saved")));
  Engine again = made(o);
  EXPECT_TRUE(again.load(directory_.path("saved")));
  EXPECT_EQ(again.evaluate(text(90)).value(), engine.evaluate(text(90)).value());
  o.optimizer = Optimizer::muon;
  expect_refused(Engine::create(o), "optimizer", {"optimizer is muon", "learns by adamw"});
  o.architecture = directory_.path("brain.json"), o.optimizer = Optimizer::adamw;
  expect_refused(Engine::create(o), "optimizer", {"optimizer is adamw", "learns by muon"});
}

TEST_F(Api, LeavesItsProcessAlone) {
  const auto core = [] {
    const char* named = std::getenv("OPENBLAS_CORETYPE");
    return std::string(named ? named : "");
  };
  const std::string core_before = core();
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
  EXPECT_EQ(core(), core_before);
  EXPECT_EQ(std::getenv("OPENBLAS_NUM_THREADS"), nullptr);
}

}  // namespace
}  // namespace neurogen

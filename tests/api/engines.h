// Engines through the public header, as the shared library offers them to any program.
#pragma once
#include <gtest/gtest.h>
#include <neurogen/engine.h>

#include "tests/tools/run_program.h"

namespace neurogen {

using Ids = std::vector<std::int32_t>;

class Api : public testing::Test {
 protected:
  Api() { directory_.file("brain.json", kTestBrain); }

  EngineOptions options(std::int64_t batch = 2, std::int64_t window = 24) const {
    EngineOptions o;
    o.architecture = directory_.path("brain.json");
    o.device = Device::cpu;
    o.threads = 2;
    o.batch = batch;
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
  // Refused with one sentence that contains the parts and names the field first.
  template <typename Value>
  static void expect_refused(const Result<Value>& result, const std::string& field, std::initializer_list<const char*> parts) {
    ASSERT_FALSE(result.ok());
    EXPECT_TRUE(result.failure().refused);
    const std::string& sentence = result.failure().sentence;
    EXPECT_EQ(result.failure().field, field) << sentence;
    EXPECT_NE(sentence.find(field), std::string::npos) << sentence;
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
    EXPECT_EQ(sentence.find("--"), std::string::npos) << sentence;
    for (const char* part : parts) EXPECT_NE(sentence.find(part), std::string::npos) << sentence << "\nlacks: " << part;
  }

  TemporaryDirectory directory_;
};

}  // namespace neurogen

// Settings that need a GPU to train, tested without one: plans and refusals.
#include "engine/run/settings.h"

#include <gtest/gtest.h>

#include "tests/expect_error.h"

namespace neurogen {
namespace {

constexpr Bytes kPlenty = 8'000'000'000;

Settings separate(std::int64_t batch, Bytes budget) {
  Settings s;
  s.architecture = "tiny";
  s.device = Device::cuda;
  s.window = 64;
  s.batch = batch;
  s.budget = budget;
  s.separate_buffers = true;
  return s;
}

TEST(SeparateBuffers, ArePlannedWithoutSharing) {
  const Resolved resolved = resolve(separate(2, kPlenty), true);
  EXPECT_TRUE(resolved.place.separate);
  const Fit found = fit(resolved);
  ASSERT_TRUE(found.fits());
  Bytes sum = 0;
  for (const Buffer& buffer : found.plan.buffers) {
    if (buffer.arena == ArenaKind::device) sum += align_up(buffer.bytes);
  }
  EXPECT_EQ(found.plan.device.bytes, sum);
  EXPECT_EQ(facts_of(resolved, found).title,
            "tiny, 2 x 64 = 128 tokens a step, bf16, decoder bf16, 1 section, logits kept, CUDA, separate buffers");
  Settings shared = separate(2, kPlenty);
  shared.separate_buffers = false;
  EXPECT_LT(fit(resolve(shared, true)).plan.device.bytes, sum);
}

TEST(SeparateBuffers, TakeTheLargestBatchThatFitsApart) {
  const Bytes all = fit(resolve(separate(32, kPlenty), true)).minimum;
  const Resolved resolved = resolve(separate(0, all - 1), true);
  const Fit found = fit(resolved);
  ASSERT_TRUE(found.fits());
  StepOptions more = found.model.options;
  ++more.batch;
  EXPECT_FALSE(fit_training(resolved.architecture, more, resolved.budget).fits());
}

TEST(SeparateBuffers, NeedAGpu) {
  Settings s = separate(2, kPlenty);
  s.device = Device::cpu;
  EXPECT_ERROR(resolve(s, true), "separate_buffers is for tools that check a GPU's memory: pass device cuda");
}

TEST(LogitsIn8Bits, ArePlannedForAGpuAndRefusedElsewhere) {
  Settings s;
  s.architecture = "full", s.device = Device::cuda, s.batch = 32, s.budget = kPlenty, s.logits = LogitsProduct::int8;
  const auto scratch_of = [](const Settings& settings) {
    std::int64_t count = 0;
    for (const Buffer& buffer : fit(resolve(settings, true)).plan.buffers) count += buffer.name == "decoder.int8.features";
    return count;
  };
  EXPECT_EQ(scratch_of(s), 1);
  s.logits = LogitsProduct::as_compute;
  EXPECT_EQ(scratch_of(s), 0);
  for (const auto& [architecture, expected] : {std::pair{"full", 1}, {"small", 1}, {"transformer-base", 0}, {"gpt2", 0}}) {
    s.logits.reset(), s.saved_int8_logits.reset(), s.architecture = architecture;
    EXPECT_EQ(scratch_of(s), expected) << architecture;
  }
  s.architecture = "full";
  s.saved_int8_logits = false;  // as the checkpoint was trained
  EXPECT_EQ(scratch_of(s), 0);
  s.saved_int8_logits = true, s.architecture = "transformer-base";
  EXPECT_EQ(scratch_of(s), 1);
  s.architecture = "full";
  s.logits = LogitsProduct::int8, s.compute = Compute::fp16;
  EXPECT_EQ(scratch_of(s), 1);
  s.compute = Compute::fp32;
  EXPECT_ERROR(resolve(s, true), "logits int8 is for 16-bit types on a GPU");
  s.compute = Compute::automatic, s.architecture = "gpt2";
  EXPECT_ERROR(resolve(s, true), "logits int8 is for 16-bit types on a GPU");
}

}  // namespace
}  // namespace neurogen

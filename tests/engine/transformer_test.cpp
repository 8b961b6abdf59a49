// Architecture files of transformers: the presets, the rules, and one sentence for every error.
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "engine/model/model.h"
#include "engine/run/fit.h"
#include "engine/run/settings.h"
#include "engine/transformer/architecture.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

using nlohmann::json;

TransformerShape preset(const std::string& name) {
  return dynamic_cast<const TransformerArchitecture&>(*read_architecture(name)).shape();
}

void refuses(const std::function<void(json&)>& change, const std::string& part) {
  json a = json::parse(to_json(preset("gpt2")));
  change(a);
  EXPECT_ERROR(parse_transformer(a.dump(), "a.json"), "a.json: ", part);
}

TEST(Transformer, PresetsAreWhatTheyPromise) {
  EXPECT_EQ(preset("gpt2").parameters(), 124'439'808);  // as Hugging Face counts them
  EXPECT_EQ(preset("smollm2-135m").parameters(), 134'515'008);
  EXPECT_EQ(preset("smollm2-360m").parameters(), 361'821'120);
  EXPECT_EQ(preset("qwen2.5-0.5b").parameters(), 494'032'768);
  EXPECT_EQ(preset("transformer-small").weights(), 8 * 12 * 512 * 512 + 32'000 * 512);
  EXPECT_EQ(preset("transformer-tiny").vocabulary, 4'096);
  EXPECT_EQ(smaller_presets(*read_architecture("smollm2-135m")).size(), 4u);
  for (const char* name :
       {"gpt2", "qwen2.5-0.5b", "smollm2-360m", "smollm2-135m", "transformer-base", "transformer-small", "transformer-tiny"}) {
    const TransformerShape a = preset(name);
    EXPECT_EQ(a.name, name);
    EXPECT_EQ(a.head_width(), 64);  // a GPU takes it
    EXPECT_EQ(to_json(parse_transformer(to_json(a), "again")), to_json(a));
    StepOptions o;
    o.batch = 1;
    std::int64_t counted = 0;
    for (const Parameter& p : build_training(read_architecture(name), o).parameters)
      counted += static_cast<std::int64_t>(size_of(DType::u8, p.shape));
    EXPECT_EQ(counted, a.parameters());
  }
}

TEST(Transformer, NamesTheKeyThatBreaksARule) {
  refuses([](json& a) { a.erase("width"); }, "width is missing");
  refuses([](json& a) { a["widht"] = 3; }, "widht is unknown");
  refuses([](json& a) { a["width"] = "768"; }, "width is \"768\": use a whole number from 1 to 65536");
  refuses([](json& a) { a["width"] = -768; }, "width is -768");
  refuses([](json& a) { a["width"] = nullptr; }, "width is null: give it a value");
  refuses([](json& a) { a["layers"] = 1.5; }, "layers is 1.5");
  refuses([](json& a) { a["vocabulary"] = 1; }, "vocabulary is 1: use 2 tokens or more");
  refuses([](json& a) { a["vocabulary"] = 250'001; }, "vocabulary is 250001");
  refuses([](json& a) { a["heads"] = 5; }, "heads is 5: use a divisor of width (768)");
  refuses([](json& a) { a["heads"] = 768, a["key_value_heads"] = 768; }, "heads is 768: use a divisor of half the width (384)");
  refuses([](json& a) { a["key_value_heads"] = 5; }, "key_value_heads is 5: use a divisor of heads (12)");
  refuses([](json& a) { a["hidden"] = 100; }, "hidden is 100: use a multiple of 8, such as 104");
  refuses([](json& a) { a["norm"] = "batch"; }, "norm is \"batch\": use layer or rms");
  refuses([](json& a) { a["positions"] = 3; }, "positions is 3: use learned or rotary");
  refuses([](json& a) { a["activation"] = "relu"; }, "activation is \"relu\": use gelu_tanh or silu_gated or relu2");
  refuses([](json& a) { a["tied"] = 1; }, "tied is 1: use true or false");
  refuses([](json& a) { a["rotary_theta"] = 0; }, "rotary_theta is 0: use a number from 1 to 1e12");
  refuses([](json& a) { a["norm_eps"] = 0; }, "norm_eps is 0");
  refuses([](json& a) { a["softcap"] = 0.5; }, "softcap is 0.5: use a bound of the logits from 1 to 1e6, or 0 for none");
  refuses([](json& a) { a["name"] = json::array(); }, "name is []: use a string");
  EXPECT_ERROR(parse_transformer("{", "a.json"), "a.json: not an architecture: it is not a JSON object");
  EXPECT_ERROR(parse_transformer(R"({"width": 8, "width": 8})", "a.json"), "twice");
}

TEST(Transformer, SettingsFollowTheArchitecture) {
  Settings s;
  s.architecture = "gpt2", s.device = Device::cpu;
  EXPECT_EQ(resolve(s, true).options.optimizer, Optimizer::adamw);  // tied
  s.window = 1025;
  EXPECT_ERROR(resolve(s, true), "window is 1025: gpt2 knows 1024 positions");
  s.window = 64, s.optimizer = Optimizer::muon;
  EXPECT_ERROR(resolve(s, true), "optimizer is muon: gpt2 learns by adamw");
  s.architecture = "transformer-tiny", s.optimizer.reset();
  EXPECT_EQ(resolve(s, true).options.optimizer, Optimizer::muon);
  s.saved_optimizer = Optimizer::adamw;
  EXPECT_EQ(resolve(s, true).options.optimizer, Optimizer::adamw);
  s.architecture = "tiny";
  EXPECT_EQ(resolve(s, true).options.optimizer, Optimizer::muon);
  s.optimizer = Optimizer::adamw;
  EXPECT_ERROR(resolve(s, true), "optimizer is adamw: tiny learns by muon");
}

TEST(Transformer, OfAnyWidthOfHeadsNeedsACpu) {
  TransformerShape a = preset("transformer-tiny");
  a.heads = a.key_value_heads = 24;
  StepOptions o;
  o.target.gpu = true;
  EXPECT_ERROR(build_training(std::make_shared<TransformerArchitecture>(a), o),
               "a head is 8 wide (width 192, heads 24), a GPU takes multiples of 16 up to 128: use device cpu");
}

TEST(Transformer, KeepsItsProportions) {
  const TransformerArchitecture base(preset("smollm2-135m"));
  const auto grown = std::dynamic_pointer_cast<const TransformerArchitecture>(base.in_proportion(4));
  ASSERT_TRUE(grown);
  const TransformerShape& a = grown->shape();
  EXPECT_EQ(std::tuple(a.width, a.heads, a.key_value_heads, a.hidden, a.layers, a.head_width()),
            std::tuple(768, 12, 4, 2048, 30, 64));
}

TEST(Transformer, ComputesBlocksTwiceWhereTheBudgetIsSmall) {
  const ArchitecturePtr a = read_architecture("transformer-tiny");
  StepOptions o;
  const Fit plenty = fit_training(a, o, {Bytes{1} << 40, 0});
  EXPECT_EQ(plenty.model.options.schedule.computed_twice, 0);
  const Fit less = fit_training(a, o, {plenty.plan.total() - 1, 0}), least = fit_training(a, o, {plenty.minimum, 0});
  ASSERT_TRUE(less.fits() && least.fits());
  EXPECT_EQ(less.model.options.schedule.computed_twice, 1);  // costs less time than computing the logits twice
  EXPECT_EQ(least.model.options.schedule.computed_twice, 6);
  EXPECT_LT(plenty.minimum, plenty.plan.total() / 2);
}

}  // namespace
}  // namespace neurogen

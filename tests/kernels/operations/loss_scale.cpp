#include "kernels/loss_scale.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [doublings, clean steps, what overflows: 0 nothing, 1 the features' gradient at element X, 2 the loss, 3 the brain's gradient, 4
// a logit's bound; X]
void loss_scale_case(Case& c, const Shape& s) {
  const auto state = c.updated("state", {4}, values({static_cast<double>(s[0]), static_cast<double>(s[1]), 1, 2}), Stored::i32);
  const auto control = c.control({.step = 9, .overflow = kTrunkOverflow}, Use::updated);
  const double counted = s[2] == 4 ? 1 : 1e6;
  const auto total = c.input("total", {2}, values({s[2] == 2 ? INFINITY : 100, counted}), Stored::f64);
  const auto one_wrong = [=](Tensor<double>& x, Random& random) {
    noise()(x, random);
    if (s[2] == 1) x[s[3]] = s[0] == 0 ? NAN : -INFINITY;
  };
  const auto d_features = c.input("d_features", {37, 60}, one_wrong);
  const auto norm = c.input("norm", {2}, values({s[2] == 3 ? NAN : 1, 1}), Stored::single);
  c.run("loss_scale_begin", [=](auto& device, const Operands& at) { loss_scale_begin(device, {at[state], at[control]}); });
  c.run("loss_scale_decoder", [=](auto& device, const Operands& at) {
    loss_scale_decoder(device, {at[total], at[d_features], at[control]});
  });
  c.run("loss_scale_end", [=](auto& device, const Operands& at) { loss_scale_end(device, {at[norm], at[control], at[state]}); });
  c.formula = [=](Values& v) {
    StepControl now = control_of(v[control]);
    const auto whole = [&](std::int64_t i) { return static_cast<std::int32_t>(v[state][i]); };
    now.loss_scale = std::ldexp(1.0f, 16 + whole(0));
    now.decoder_skips = whole(2), now.trunk_skips = whole(3);
    now.overflow = s[2] == 0 ? 0 : s[2] == 3 ? kTrunkOverflow : kDecoderOverflow | kTrunkOverflow;
    const LossScaleState after = after_step({whole(0), whole(1), whole(2), whole(3)}, now.overflow);
    store(now, v[control]);
    v[state].data = {static_cast<double>(after.doublings), static_cast<double>(after.clean),
                     static_cast<double>(after.decoder_skips), static_cast<double>(after.trunk_skips)};
  };
}

const Listed loss_scale_entry{{
    .name = "loss_scale",
    .shapes = {{0, 0, 0, 0},
               {-3, 7, 0, 0},
               {2, 1999, 0, 0},
               {8, 1999, 0, 0},
               {0, 5, 1, 0},
               {0, 5, 1, 1111},
               {1, 5, 1, 2219},
               {3, 5, 2, 0},
               {1, 9, 3, 0},
               {-16, 1, 3, 0},
               {5, 3, 4, 0}},
    .body = loss_scale_case,
}};

}  // namespace
}  // namespace neurogen

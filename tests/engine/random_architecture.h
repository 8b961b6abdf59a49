// Random small models and steps, for tests of laws that hold for all of them. Equal seeds give equal models on every system.
#pragma once
#include <algorithm>
#include <random>
#include <vector>

#include "engine/run/session.h"
#include "engine/transformer/architecture.h"
#include "tests/engine/brains.h"

namespace neurogen {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::int64_t between(std::int64_t low, std::int64_t high) {  // both inclusive
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  template <typename Value>
  Value one_of(std::initializer_list<Value> values) {
    return values.begin()[between(0, static_cast<std::int64_t>(values.size()) - 1)];
  }

 private:
  std::mt19937_64 engine_;  // gives the same sequence with every library, unlike the standard distributions
};

// Goes through JSON and the parser, so that each is valid by the engine's own rules.
inline BrainShape random_architecture(Random& random) {
  const std::int64_t stripe = random.one_of({1, 2, 3}), opener = 32 * random.between(1, 6 / stripe), wide = stripe * opener;
  const std::int64_t outputs[kModules] = {32 * random.between(1, 6), wide, 64 * random.between(1, 3), opener, wide, wide};
  BrainShape a;
  a.name = "random";
  a.vocabulary = random.between(40, 300);
  a.embedding = 32 * random.between(1, 6);
  a.pairs = random.one_of<std::int64_t>({0, 1, 50, 300});
  a.softcap = random.one_of({0.0, 2.0, 30.0});
  for (int m = 0; m < kModules; ++m) {
    const std::int64_t roles = random.between(m == kHippocampus ? 4 : 2, 5);
    a.modules[m] = {roles * outputs[m], outputs[m], 16 * random.between(1, 14)};
  }
  return parse_brain(to_json(a), "random");
}

// A random model of one family.
using Draw = ArchitecturePtr (*)(Random&);

inline ArchitecturePtr random_brain(Random& random) { return brain(random_architecture(random)); }

inline ArchitecturePtr random_transformer(Random& random) {
  const auto flag = [&] { return random.one_of({true, false}); };
  TransformerShape a;
  a.name = "random";
  a.vocabulary = random.between(40, 300);
  a.key_value_heads = random.between(1, 3);
  a.heads = a.key_value_heads * random.between(1, 3);
  a.width = 8 * a.heads * random.between(1, 3);
  a.layers = random.between(1, 4);
  a.hidden = 8 * random.between(1, 20);
  a.context = 260;  // the longest of random_options
  a.norm = random.one_of({Norm::layer, Norm::rms});
  a.rotary = flag();
  a.activation = random.one_of({Activation::gelu_tanh, Activation::silu_gated, Activation::relu2});
  a.qk_norm = flag(), a.qkv_bias = flag(), a.bias = flag(), a.tied = flag(), a.embedding_norm = flag();
  a.softcap = random.one_of({0.0, 2.0, 30.0});
  return std::make_shared<TransformerArchitecture>(parse_transformer(to_json(a), "random"));
}

inline StepOptions random_options(Random& random, const Architecture& a) {
  StepOptions o;
  o.batch = random.between(1, 5);
  o.window = random.one_of({1, 2, 7, 16, 33, 64, 130, 260});
  o.vocabulary_tile = random.one_of<std::int64_t>({1280, a.vocabulary(), 7, 32, 100});
  o.document_end = random.one_of<std::int64_t>({-1, 3});
  o.target.threads = random.between(1, 3);
  const std::vector<Optimizer> optimizers = a.optimizers();
  if (a.family() != "brain") o.optimizer = optimizers[static_cast<std::size_t>(random.between(0, 1)) % optimizers.size()];
  return o;
}
inline StepOptions random_options(Random& random, const BrainShape& a) { return random_options(random, BrainArchitecture(a)); }

// The same, some with several micro-batches in a step, and some of those that AdamW trains with leaner storage.
inline StepOptions random_step(Random& random, const Architecture& a) {
  StepOptions o = random_options(random, a);
  if (o.batch == 3) o.accumulate = 3;
  if (o.optimizer != Optimizer::adamw) return o;
  o.narrow_weights = random.one_of({true, false}), o.narrow_moments = random.one_of({true, false});
  o.early_updates = o.accumulate == 1 && random.one_of({true, false});
  return o;
}

// Tokens of `a` for whole batches of a training program: ids and targets, some of them masked.
inline std::vector<std::int32_t> random_batch(Random& random, const Architecture& a, const StepOptions& o) {
  std::vector<std::int32_t> batch(static_cast<std::size_t>(2 * o.tokens()));
  for (auto& id : batch) id = static_cast<std::int32_t>(random.between(0, a.vocabulary() - 1));
  for (std::size_t i = batch.size() / 2 + 1; i < batch.size(); i += 11) batch[i] = -1;
  return batch;
}
inline std::vector<std::int32_t> random_batch(Random& random, const BrainShape& a, const StepOptions& o) {
  return random_batch(random, BrainArchitecture(a), o);
}

}  // namespace neurogen

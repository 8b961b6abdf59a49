// Training and evaluation: schedule, order of the text, updates against the formulas, counts.
#include "engine/run/trainer.h"

#include <set>

#include "engine/run/evaluator.h"
#include "kernels/adafactor.h"
#include "kernels/adamw.h"
#include "tests/engine/laws.h"
#include "tests/expect_error.h"
#include "tests/kernels/orthogonal.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using Values = std::vector<double>;

BrainShape small_architecture() {
  BrainShape a;
  a.name = "small";
  a.vocabulary = 50;
  a.embedding = 32;
  a.pairs = 70;
  a.softcap = 3;
  a.modules = {Module{64, 32, 32}, {192, 64, 48}, {256, 64, 32}, {128, 32, 64}, {256, 64, 96}, {320, 64, 32}};
  return parse_brain(to_json(a), "small");
}
StepOptions small_options(std::int64_t batch = 3, std::int64_t window = 8) {
  StepOptions o;
  o.batch = batch;
  o.window = window;
  return o;
}
Values values(const TensorView& view) {
  Values out(static_cast<std::size_t>(view.elements()));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = view.dtype == DType::f64 ? view.as<double>()[i] : static_cast<double>(view.as<float>()[i]);
  return out;
}

class TrainerTest : public testing::Test {
 protected:
  Tokens text(const std::vector<std::uint16_t>& ids) {
    const std::string name = std::to_string(files_++) + ".bin";
    return Tokens({directory_.file(name, {reinterpret_cast<const char*>(ids.data()), ids.size() * 2})}, nullptr);
  }
  // A simple text: each token says much about the next.
  static std::vector<std::uint16_t> pattern(std::size_t n) {
    std::vector<std::uint16_t> ids(n);
    for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::uint16_t>((i * i / 3 + i % 7) % 50);
    return ids;
  }
  TemporaryDirectory directory_;
  int files_ = 0;
};

TEST(RateFactor, FollowsTheFormula) {
  EXPECT_DOUBLE_EQ(rate_factor(0, 1000, 100), 0.01);
  EXPECT_DOUBLE_EQ(rate_factor(98, 1000, 100), 0.99);
  EXPECT_DOUBLE_EQ(rate_factor(99, 1000, 100), 1);
  EXPECT_DOUBLE_EQ(rate_factor(499, 1000, 100), 1);
  EXPECT_DOUBLE_EQ(rate_factor(500, 1000, 100), 1);  // 2 - 2 s/steps is 1 there too
  EXPECT_DOUBLE_EQ(rate_factor(750, 1000, 100), 0.5);
  EXPECT_NEAR(rate_factor(974, 1000, 100), 0.052, 1e-15);
  EXPECT_NEAR(rate_factor(975, 1000, 100), 0.05, 1e-15);
  EXPECT_DOUBLE_EQ(rate_factor(999, 1000, 100), 0.05);
  EXPECT_DOUBLE_EQ(rate_factor(5000, 1000, 100), 0.05);         // after the end
  EXPECT_DOUBLE_EQ(rate_factor(0, 1000, 0), 1);                 // no warm-up
  EXPECT_DOUBLE_EQ(rate_factor(0, 1, 100), 0.01);               // one step
  EXPECT_DOUBLE_EQ(rate_factor(60, 100, 100), 0.61 * 0.8);      // both at once
  EXPECT_DOUBLE_EQ(rate_factor(1'000'000, INT64_MAX, 100), 1);  // length not known yet
}

// The changes of every parameter in two steps match the formulas, given the engine's own gradients, for one tile and for many.
void expect_updates_by_formula(std::int64_t tile) {
  SCOPED_TRACE(tile);
  StepOptions o = small_options();
  o.compute = o.decoder_storage = DType::f64;
  o.vocabulary_tile = tile;
  Session session(planned(build_training(small_architecture(), o), kApart));
  const Model& model = session.model;
  Program& program = session.program;
  initialize(model, program, 9);
  const double rate = 4e-3, table_rate = 0.25, decoder_rate = 1e-3, synapse_rate = 0.01;
  const std::size_t width = 32, vocabulary = 50, outputs = 64;
  std::vector<Values> p, m, v;
  for (const Parameter& parameter : model.parameters) {
    p.push_back(values(program.view(parameter.value)));
    m.emplace_back(p.back().size(), 0), v.emplace_back(p.back().size(), 0);
  }
  Values row(vocabulary, 0), column(outputs, 0);
  for (int n = 1; n <= 2; ++n) {
    Random random(static_cast<std::uint64_t>(n));
    const auto batch = random_batch(random, small_architecture(), o);
    std::copy(batch.begin(), batch.end(), program.view(model.ports.batch).as<std::int32_t>());
    *program.view(model.ports.control).as<StepControl>() = {n - 1, float(rate), float(table_rate), float(decoder_rate),
                                                            float(synapse_rate)};
    program.run(model.programs.train);
    const double norm = values(program.view(model.ports.norm))[0], clip = std::min(1.0, 1 / (norm + 1e-6));
    double squares = 0;
    const auto adam = [&](std::size_t i, std::size_t at, double g, double lr, double step) {
      squares += g * g;
      g *= clip;
      m[i][at] = 0.9 * m[i][at] + 0.1 * g;
      v[i][at] = 0.98 * v[i][at] + 0.02 * g * g;
      p[i][at] -= lr * (m[i][at] / (1 - std::pow(0.9, step))) / (std::sqrt(v[i][at] / (1 - std::pow(0.98, step))) + 1e-8);
    };
    for (std::size_t i = 0; i < p.size(); ++i) {
      const Parameter& parameter = model.parameters[i];
      if (parameter.rule == UpdateRule::adafactor) {
        Values column_next(outputs, 0);
        std::size_t first = 0;
        for (TensorId id : model.decoder_gradients) {
          const Values g = values(program.view(id));
          const std::size_t rows = g.size() / outputs;
          Values estimate(outputs, 0), u(g.size());
          double mean = 0, rms = 0;
          for (std::size_t k = 0; k < g.size(); ++k) {
            const double q = g[k] * g[k] + 1e-30;
            row[first + k / outputs] =
                (k % outputs == 0 ? 0.99 * row[first + k / outputs] : row[first + k / outputs]) + 0.01 * q / outputs;
            column_next[k % outputs] += q / vocabulary;
            estimate[k % outputs] += n == 1 ? q / static_cast<double>(rows) : 0;
          }
          for (std::size_t j = 0; j < outputs; ++j) mean += (n == 1 ? estimate[j] : estimate[j] = column[j] / (1 - 0.99)) / outputs;
          for (std::size_t k = 0; k < g.size(); ++k) {
            u[k] = g[k] / std::sqrt(row[first + k / outputs] / (1 - std::pow(0.99, n)) / mean * estimate[k % outputs]);
            rms += u[k] * u[k] / static_cast<double>(g.size());
          }
          for (std::size_t k = 0; k < g.size(); ++k) {
            p[i][first * outputs + k] -= float(decoder_rate) * u[k] / std::max(1.0, std::sqrt(rms));
          }
          first += rows;
        }
        ASSERT_EQ(first, vocabulary);
        for (std::size_t j = 0; j < outputs; ++j) column[j] = 0.99 * column[j] + 0.01 * column_next[j];
        continue;
      }
      const Values g = values(program.view(parameter.gradient));
      if (parameter.rule == UpdateRule::muon) {
        const auto fan_in = static_cast<std::size_t>(parameter.shape[1]), wide = static_cast<std::size_t>(parameter.shape[2]);
        for (std::size_t first = 0; first < g.size(); first += fan_in * wide) {
          for (std::size_t role = 0; role < wide; role += 32) {
            const auto at = [&](std::size_t f, std::size_t c) { return first + f * wide + role + c; };
            Matrix u(fan_in, std::vector<double>(32));
            for (std::size_t f = 0; f < fan_in; ++f) {
              for (std::size_t c = 0; c < 32; ++c) {
                const double own = g[at(f, c)] * clip;
                squares += g[at(f, c)] * g[at(f, c)];
                m[i][at(f, c)] = 0.95 * m[i][at(f, c)] + 0.05 * own;
                u[f][c] = 0.05 * own + 0.95 * m[i][at(f, c)];
              }
            }
            const Matrix turned = orthogonal(u);
            for (std::size_t f = 0; f < fan_in; ++f)
              for (std::size_t c = 0; c < 32; ++c)
                p[i][at(f, c)] = p[i][at(f, c)] * (1 - float(synapse_rate) * 0.05) - float(synapse_rate) * turned[f][c];
          }
        }
        continue;
      }
      if (parameter.rule != UpdateRule::rowwise_rmsprop) {
        for (std::size_t k = 0; k < g.size(); ++k) adam(i, k, g[k], float(rate), n);
        continue;
      }
      std::set<std::size_t> touched;
      for (std::int64_t k = 0; k < o.tokens(); ++k) {
        const auto id = [&](std::int64_t n) { return static_cast<std::size_t>(batch[static_cast<std::size_t>(n)]); };
        const std::size_t before = k % o.window == 0 ? 0 : id(k - 1);
        touched.insert(parameter.name == "embedding.weight" ? id(k) : (1000003 * id(k) + 998244353 * before) % 70);
      }
      for (std::size_t r = 0; r < static_cast<std::size_t>(parameter.shape[0]); ++r) v[i][r] *= 0.98;  // one for each row
      std::size_t at = 0;
      for (std::size_t r : touched) {
        double mean = 0;
        for (std::size_t e = 0; e < width; ++e) squares += g[at + e] * g[at + e], mean += std::pow(g[at + e] * clip, 2) / width;
        v[i][r] += 0.02 * mean;
        for (std::size_t e = 0; e < width; ++e, ++at)
          p[i][r * width + e] -= float(table_rate) * std::sqrt(0.02) * g[at] * clip / std::sqrt(v[i][r] + 1e-24);
      }
    }
    EXPECT_NEAR(std::sqrt(squares) / norm, 1, 1e-12);
  }
  for (std::size_t i = 0; i < p.size(); ++i) {
    const Values actual = values(program.view(model.parameters[i].value));
    for (std::size_t k = 0; k < actual.size(); ++k) {
      ASSERT_NEAR(actual[k], p[i][k], 1e-11) << model.parameters[i].name << " " << k;
    }
  }
}

TEST_F(TrainerTest, EveryUpdateFollowsItsFormulaInTilesOfAnySize) {
  for (std::int64_t tile : {1280, 50, 17, 1}) expect_updates_by_formula(tile);
}

TEST_F(TrainerTest, AnAbsentTokenKeepsItsRowAndForgetsItsSecondMoment) {
  const BrainShape a = small_architecture();
  const StepOptions o = small_options(1, 8);
  Session session(planned(build_training(a, o), kPlenty));
  const Model& model = session.model;
  initialize(model, session.program, 9);
  const Parameter& p = model.parameter("embedding.weight");
  const auto row = [&] {
    const float* at = session.program.view(p.value).as<float>() + 5 * 32;
    return std::vector<float>(at, at + 32);
  };
  const auto moment = [&] { return session.program.view(p.v).as<float>()[5]; };
  const auto run = [&](std::vector<std::int32_t> ids) {
    ids.resize(16, 1);
    Outcome ignored;
    steps(session, ids, 1, ignored);
  };
  const auto untouched = row();
  run({1, 2, 3, 4, 6, 7, 8, 9});
  EXPECT_EQ(row(), untouched);
  EXPECT_EQ(moment(), 0);
  run({1, 2, 3, 4, 5, 7, 8, 5});
  const auto once = row();
  const float fresh = moment();
  EXPECT_NE(once, untouched);
  EXPECT_GT(fresh, 0);
  for (int i = 0; i < 3; ++i) run({1, 2, 3, 4, 6, 7, 8, 9});
  EXPECT_EQ(row(), once);
  EXPECT_FLOAT_EQ(moment(), 0.98f * 0.98f * 0.98f * fresh);
}

TEST_F(TrainerTest, EvaluationPredictsEveryTokenButTheFirstOnceWhateverTheBatch) {
  const BrainShape a = small_architecture();
  const auto evaluate = [&](const std::vector<std::uint16_t>& ids, std::int64_t batch, std::int64_t most = INT64_MAX) {
    const StepOptions o = small_options(batch, 8);
    Session session(planned(build_evaluation(a, o), kPlenty));
    initialize(session.model, session.program, 3);
    return Evaluator(session.model, session.program).run(text(ids), most);
  };
  for (std::size_t n : {2, 3, 8, 9, 10, 17, 29, 65}) {
    const auto ids = pattern(n);
    double sum = 0;  // window by window, each as its own text
    for (std::size_t begin = 0; begin + 1 < n; begin += 8) {
      const auto end = std::min(n, begin + 9);
      const Evaluation part =
          evaluate({ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end)}, 1);
      EXPECT_EQ(part.tokens, static_cast<std::int64_t>(end - begin - 1));
      sum += part.loss * static_cast<double>(part.tokens);
    }
    for (std::int64_t batch : {1, 2, 5}) {
      const Evaluation whole = evaluate(ids, batch);
      EXPECT_EQ(whole.tokens, static_cast<std::int64_t>(n - 1));
      EXPECT_NEAR(whole.loss, sum / static_cast<double>(n - 1), 1e-6) << n << " tokens, batch " << batch;
    }
  }
  EXPECT_EQ(evaluate(pattern(65), 3, 24).tokens, 24);
  EXPECT_EQ(evaluate(pattern(65), 3, 31).tokens, 24);  // whole windows
  EXPECT_EQ(evaluate(pattern(65), 3, 1).tokens, 8);
}

TEST_F(TrainerTest, AnEpochVisitsEveryWindowOnce) {
  const BrainShape a = small_architecture();
  const StepOptions o = small_options(3, 8);
  std::vector<std::uint16_t> ids(20 * 8 + 5, 49);  // 20 windows: 6 batches, 2 windows left out
  for (std::size_t w = 0; w < 20; ++w) ids[w * 8] = static_cast<std::uint16_t>(w);
  const Tokens train = text(ids);
  Session session(planned(build_training(a, o), kPlenty));
  initialize(session.model, session.program, 1);
  Trainer trainer(session.model, session.program, train, {}, 7);
  ASSERT_EQ(trainer.steps_per_epoch(), 6);
  std::vector<std::vector<std::int32_t>> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<std::int32_t> order;
    for (int step = 0; step < 6; ++step) {
      trainer.run_step(18);
      const auto* at = session.program.view(session.model.ports.batch).as<std::int32_t>();
      for (int i = 0; i < 3; ++i) {
        order.push_back(at[i * 8]);
        for (int t = 0; t < 7; ++t) EXPECT_EQ(at[24 + i * 8 + t], at[i * 8 + t + 1]);  // targets: shifted by one token
      }
    }
    EXPECT_EQ(std::set<std::int32_t>(order.begin(), order.end()).size(), 18u);
    orders.push_back(order);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
  EXPECT_EQ(trainer.step(), 18);
  EXPECT_ERROR(Trainer(session.model, session.program, text(pattern(24)), {}, 7), "24 tokens", "needs 25");
}

TEST_F(TrainerTest, RunsAreRepeatableAndLearn) {
  const BrainShape a = small_architecture();
  const Tokens train = text(pattern(200));
  const auto losses = [&](std::uint64_t seed, std::int64_t threads, int count) {
    StepOptions o = small_options(4, 16);
    o.target.threads = threads;
    Session session(planned(build_training(a, o), kPlenty));
    initialize(session.model, session.program, seed);
    Trainer trainer(session.model, session.program, train, {4e-3, 0.01, 0.25, 1e-3, 4}, seed);
    Values list;
    for (int i = 0; i < count; ++i) list.push_back(trainer.run_step(count).loss);
    return list;
  };
  const Values six = losses(1, 1, 6);
  EXPECT_EQ(losses(1, 1, 6), six);
  EXPECT_EQ(losses(1, 2, 6), six);
  EXPECT_NE(losses(2, 1, 6), six);
  const Values many = losses(1, 2, 120);
  EXPECT_NEAR(many.front(), std::log(50), 0.6);
  EXPECT_LT(many.back(), 0.7 * many.front());
}

}  // namespace
}  // namespace neurogen

// Observations of a brain in training, compared with other ways to look at the same brain.
#include "engine/run/activity.h"

#include "engine/run/sample.h"
#include "engine/run/stream.h"
#include "tests/engine/laws.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

struct Observed {
  explicit Observed(std::uint64_t seed) {
    Random random(seed);
    architecture = random_architecture(random);
    options = random_options(random, architecture);
    options.schedule.sections = std::min<std::int64_t>(options.batch, 2);
    ids.resize(static_cast<std::size_t>(random.between(3, 3 * options.tokens())));
    for (auto& id : ids) id = static_cast<std::uint16_t>(random.between(0, architecture.vocabulary - 1));
    text.emplace(std::vector<std::string>{directory.file("text.bin", {reinterpret_cast<const char*>(ids.data()), ids.size() * 2})},
                 nullptr);
    session = make();
  }
  std::unique_ptr<Session> make() const {
    auto made = std::make_unique<Session>(planned(build_training(architecture, options), kPlenty));
    initialize(made->model, made->program, 5);
    return made;
  }
  TemporaryDirectory directory;
  BrainShape architecture;
  StepOptions options;
  std::vector<std::uint16_t> ids;
  std::optional<Tokens> text;
  std::unique_ptr<Session> session;
};

double element(const TensorView& view, std::int64_t i) {
  return view.dtype == DType::f64 ? view.as<double>()[i] : static_cast<double>(view.as<float>()[i]);
}

// The outputs of a module, one line per output, from a stream of the same brain; found by the name of the operation's tensor.
std::vector<std::vector<double>> streamed_outputs(const Observed& o, const Session& trained, ModuleIndex module,
                                                  std::int64_t tokens) {
  Session single(planned(build_stream(o.architecture, o.options), kApart));  // nothing is overwritten
  initialize(single.model, single.program, 5);
  for (std::size_t p = 0; p < single.model.parameters.size(); ++p) {
    const TensorView from = trained.program.view(trained.model.parameters[p].value);
    single.program.write(single.model.parameters[p].value, from.data, size_of(from.dtype) * static_cast<Bytes>(from.elements()));
  }
  Stream stream(single.model, single.program);
  const auto& tensors = single.model.graph.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const Buffer& b) { return b.name == std::string(name_of(module)) + ".output"; });
  const TensorView output = single.program.view({static_cast<std::size_t>(found - tensors.begin())});
  std::vector<std::vector<double>> lines(static_cast<std::size_t>(output.elements()));
  for (std::int64_t t = 0; t < tokens; ++t) {
    if (t % o.options.window == 0) stream.reset();
    stream.step(o.ids[static_cast<std::size_t>(t)]);
    for (std::size_t j = 0; j < lines.size(); ++j) lines[j].push_back(element(output, static_cast<std::int64_t>(j)));
  }
  return lines;
}

double mean_of(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}
double deviation_of(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += (v - mean_of(x)) * (v - mean_of(x));
  return std::sqrt(sum / static_cast<double>(x.size()));
}

TEST(Activity, IsWhatAStreamOfTheSameBrainShows) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Observed o(seed);
    Session& s = *o.session;
    // Sets gains and gate biases so that some outputs are dead, some hardly move, and some gates are wide open.
    for (int m = 0; m < kModules; ++m) {
      const TensorView gain = s.program.view(s.model.parameter(std::string(name_of(static_cast<ModuleIndex>(m))) + ".gain").value);
      for (std::int64_t j = 0; j < gain.elements(); j += 5) gain.as<float>()[j] = 1e-4f;
    }
    const TensorView bias = s.program.view(s.model.parameter("prefrontal.gate_bias").value);
    for (std::int64_t j = 0; j < bias.elements(); ++j) bias.as<float>()[j] = static_cast<float>(j % 3 * 8 - 8);

    ActivityMeter meter(s.model, s.program, *o.text);
    const Activity activity = meter.measure();
    ASSERT_GT(activity.tokens, 0);
    ASSERT_LT(activity.tokens, static_cast<std::int64_t>(o.ids.size()));
    for (int m = 0; m < kModules; ++m) {
      const auto module = static_cast<ModuleIndex>(m);
      SCOPED_TRACE(name_of(module));
      const auto lines = streamed_outputs(o, s, module, activity.tokens);
      std::vector<double> all, squares;
      for (const auto& line : lines) all.insert(all.end(), line.begin(), line.end());
      for (double x : all) squares.push_back(x * x);
      EXPECT_NEAR(activity.modules[m].mean, mean_of(all), 1e-5);
      EXPECT_NEAR(activity.modules[m].spread, deviation_of(all), 1e-5);
      double dead = 0, saturated = 0;
      for (const auto& line : lines) {
        double square = 0;
        for (double x : line) square += x * x / static_cast<double>(line.size());
        const bool is_dead = std::sqrt(square) < 0.01 * std::sqrt(mean_of(squares));
        dead += is_dead;
        saturated += !is_dead && deviation_of(line) < 0.05 * std::abs(mean_of(line));
      }
      EXPECT_NEAR(activity.modules[m].dead, dead / static_cast<double>(lines.size()), 1e-12);
      EXPECT_NEAR(activity.modules[m].saturated, saturated / static_cast<double>(lines.size()), 1e-12);
      EXPECT_GT(activity.modules[m].dead, 0.15);
      if (module == kBasalGanglia) {
        double mean = 0, open = 0, shut = 0;
        for (std::size_t j = 0; j < lines.size(); ++j) {
          for (double x : lines[j]) {
            const double gate = 1 / (1 + std::exp(-x - element(bias, static_cast<std::int64_t>(j))));
            mean += gate, open += gate > 0.9, shut += gate < 0.1;
          }
        }
        const auto n = static_cast<double>(all.size());
        EXPECT_NEAR(activity.gates.mean, mean / n, 1e-5);
        EXPECT_NEAR(activity.gates.open, open / n, 1e-3);
        EXPECT_NEAR(activity.gates.shut, shut / n, 1e-3);
        EXPECT_GT(activity.gates.open, 0.1);
        EXPECT_GT(activity.gates.shut, 0.1);
      }
      if (module == kHippocampus) continue;
      const auto& tau = activity.modules[m].time_constants;
      const TimeConstants wanted = time_constants_of(module);
      EXPECT_TRUE(std::is_sorted(tau.begin(), tau.end()));
      EXPECT_GE(tau.front(), std::max(1.05, wanted.shortest) - 1e-3);
      EXPECT_LE(tau.back(), wanted.longest * 1.001);
      EXPECT_NEAR(std::log(tau[2]), (std::log(std::max(1.05, wanted.shortest)) + std::log(wanted.longest)) / 2, 1.2);
    }
  }
}

TEST(Sample, IsWhatAStreamOfTheSameBrainSays) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Observed o(seed);
    o.options.document_end = -1;
    o.session = o.make();
    SampleWriter writer(o.session->model, o.session->program, *o.text, {.temperature = 0});
    writer.silence(3);
    const auto said = writer.write();
    const std::vector<std::int32_t> made(said.begin(), said.end());
    ASSERT_GE(made.size(), 1u);
    EXPECT_TRUE(std::equal(writer.prompt().begin(), writer.prompt().end(), o.ids.begin()));
    Session single(planned(build_stream(o.architecture, o.options), kPlenty));
    initialize(single.model, single.program, 5);
    Stream stream(single.model, single.program);
    TensorView logits;
    for (const std::int32_t id : writer.prompt()) logits = stream.step(id);
    for (const std::int32_t id : made) {
      EXPECT_NE(id, 3);
      for (std::int64_t v = 0; v < o.architecture.vocabulary; ++v) {
        EXPECT_TRUE(v == 3 || element(logits, v) <= element(logits, id) + 1e-4);
      }
      logits = stream.step(id);
    }
    const auto again = writer.write();
    EXPECT_TRUE(std::equal(again.begin(), again.end(), made.begin(), made.end()));
  }
}

// Observing leaves no trace: training continues with the same bits, timed or not.
TEST(Observation, ChangesNoBit) {
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    Observed o(seed);
    Random random(seed);
    const auto batch = random_batch(random, o.architecture, o.options);
    const auto outcome = [&](bool watched) {
      const auto session = o.make();
      Outcome result;
      const Graph::Range train = session->model.programs.train;
      std::vector<double> times(train.end - train.begin, -1);
      session->program.prepare_times(train);
      ActivityMeter meter(session->model, session->program, *o.text);
      SampleWriter writer(session->model, session->program, *o.text, {});
      for (int i = 0; i < 2; ++i) {
        if (watched) meter.measure(), writer.write(), session->program.time_next_run(times);
        steps(*session, batch, 1, result);
      }
      for (double time : times) EXPECT_TRUE(watched ? time >= 0 : time == -1);
      const std::byte* image = session->arena.data(ArenaKind::device);
      result.persistent.assign(image, image + session->arena.plan().device.persistent);
      return result;
    };
    EXPECT_TRUE(outcome(true) == outcome(false));
  }
}

}  // namespace
}  // namespace neurogen

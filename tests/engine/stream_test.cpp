// Compares single tokens with whole windows, and weights with those that went through files.
#include "engine/run/stream.h"

#include "engine/files/safetensors.h"
#include "tests/engine/laws.h"
#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

Session* new_session(Model model, bool overlay = true) {
  return new Session(planned(std::move(model), overlay ? kPlenty : kApart));
}
using SessionPointer = std::unique_ptr<Session>;

double element(const TensorView& view, std::int64_t i) {
  return view.dtype == DType::f64 ? view.as<double>()[i] : static_cast<double>(view.as<float>()[i]);
}

// The decoder's products [N, V] of a batch, before a softcap, by the forward pass of evaluation.
std::vector<double> batched_logits(Session& session, const std::vector<std::int32_t>& batch) {
  const Model& model = session.model;
  std::copy(batch.begin(), batch.end(), session.program.view(model.ports.batch).as<std::int32_t>());
  const std::int64_t n = model.options.tokens(), vocabulary = model.architecture->vocabulary();
  std::vector<double> logits(static_cast<std::size_t>(n * vocabulary));
  std::size_t begin = model.programs.evaluate.begin;
  std::int64_t column = 0;
  for (const LogitsTile& tile : model.logits_tiles) {
    session.program.run({begin, tile.end});
    begin = tile.end;
    const TensorView view = session.program.view(tile.logits);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t v = 0; v < tile.tokens; ++v)
        logits[static_cast<std::size_t>(i * vocabulary + column + v)] = element(view, i * view[1] + v);
    column += tile.tokens;
  }
  return logits;
}

void expect_stream_equals_window(std::uint64_t seed, DType type, double limit, Draw draw = random_brain) {
  SCOPED_TRACE(seed);
  Random random(seed);
  const ArchitecturePtr a = draw(random);
  StepOptions o = random_options(random, *a);
  o.window = random.between(2, 40);
  o.compute = o.decoder_storage = type;
  auto batch = random_batch(random, *a, o);
  if (o.document_end >= 0) {  // somewhere inside every window, and twice in a row
    for (std::int64_t b = 0; b < o.batch; ++b) {
      const auto at = static_cast<std::size_t>(b * o.window + random.between(0, o.window - 2));
      batch[at] = batch[at + 1] = static_cast<std::int32_t>(o.document_end);
    }
  }
  const SessionPointer whole(new_session(build_training(a, o), false)), single(new_session(build_stream(a, o)));
  initialize_everything(whole->model, whole->program, seed);
  initialize_everything(single->model, single->program, seed);
  single->program.set_poison(true);
  const std::vector<double> logits = batched_logits(*whole, batch);
  Stream stream(single->model, single->program);
  double worst = 0;
  for (std::int64_t n = 0; n < o.tokens(); ++n) {
    if (n % o.window == 0) stream.reset();
    const TensorView row = stream.step(batch[static_cast<std::size_t>(n)]);
    for (std::int64_t v = 0; v < a->vocabulary(); ++v) {
      const double z = logits[static_cast<std::size_t>(n * a->vocabulary() + v)], softcap = a->softcap();
      const double logit = softcap > 0 ? softcap * std::tanh(z / softcap) : z;
      worst = std::max(worst, std::abs(element(row, v) - logit));
    }
  }
  EXPECT_LT(worst, limit);
}

TEST(Stream, EqualsTheWindow) {
  for (std::uint64_t seed = 0; seed < 16; ++seed) expect_stream_equals_window(seed, DType::f64, 1e-10);
  for (std::uint64_t seed = 20; seed < 26; ++seed) expect_stream_equals_window(seed, DType::f32, 1e-5);
  for (std::uint64_t seed = 40; seed < 70; ++seed) expect_stream_equals_window(seed, DType::f64, 1e-10, random_transformer);
  for (std::uint64_t seed = 70; seed < 80; ++seed) expect_stream_equals_window(seed, DType::f32, 1e-4, random_transformer);
}

TEST(Stream, OfSeveralTextsEqualsEachAlone) {
  constexpr std::int64_t kTexts = 3, kTokens = 12;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const ArchitecturePtr a = random_transformer(random);
    StepOptions o;
    o.window = random.between(2, kTokens);
    o.compute = o.decoder_storage = DType::f64;
    const SessionPointer single(new_session(build_stream(a, o)));
    o.streams = kTexts;
    const SessionPointer several(new_session(build_stream(a, o)));
    for (Session* session : {single.get(), several.get()}) {
      initialize_everything(session->model, session->program, seed);
      session->program.set_poison(true);
    }
    const std::int64_t tokens = std::min(kTokens, a->context());
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens * kTexts));
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.between(0, a->vocabulary() - 1));
    std::vector<double> logits;
    Stream all(several->model, several->program), one(single->model, single->program);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const TensorView step = all.step(std::span(ids).subspan(static_cast<std::size_t>(t * kTexts), kTexts));
      for (std::int64_t i = 0; i < step.elements(); ++i) logits.push_back(element(step, i));
    }
    double worst = 0;
    for (std::int64_t text = 0; text < kTexts; ++text) {
      one.reset();
      for (std::int64_t t = 0; t < tokens; ++t) {
        const TensorView row = one.step(ids[static_cast<std::size_t>(t * kTexts + text)]);
        for (std::int64_t v = 0; v < a->vocabulary(); ++v)
          worst = std::max(worst,
                           std::abs(element(row, v) - logits[static_cast<std::size_t>((t * kTexts + text) * a->vocabulary() + v)]));
      }
    }
    EXPECT_LT(worst, 1e-10);
  }
}

TEST(Stream, OfATransformerWithRotaryPositionsAttendsToTheLastTokensAlone) {
  TransformerShape a = parse_transformer(R"({"family": "transformer", "vocabulary": 40, "width": 32, "layers": 1, "heads": 2,
    "hidden": 64, "context": 8, "norm": "rms", "positions": "rotary", "activation": "relu2", "qk_norm": true, "qkv_bias": false,
    "bias": false, "tied": true, "embedding_norm": true})",
                                         "test");
  StepOptions o;
  o.window = 6;
  o.compute = o.decoder_storage = DType::f64;
  const auto make = [&] {
    SessionPointer session(new_session(build_stream(std::make_shared<TransformerArchitecture>(a), o)));
    initialize(session->model, session->program, 4);
    return session;
  };
  const SessionPointer one(make()), other(make());
  Stream first(one->model, one->program), second(other->model, other->program);
  for (int t = 0; t < 100; ++t) first.step(t % 40), second.step(39 - t % 40);  // two pasts of one length
  bool differs = false;
  for (int t = 0; t < 12; ++t) {
    const TensorView left = first.step(7 + t), right = second.step(7 + t);
    bool equal = true;
    for (std::int64_t v = 0; v < a.vocabulary; ++v) equal = equal && element(left, v) == element(right, v);
    differs = differs || !equal;
    EXPECT_TRUE(t < 6 || equal) << t;  // a block sees six tokens
  }
  EXPECT_TRUE(differs);

  a.rotary = false;  // learned positions end
  const SessionPointer third(make());
  Stream limited(third->model, third->program);
  for (int t = 0; t < 8; ++t) limited.step(t);
  EXPECT_ERROR(limited.step(8), "the text is longer than the 8 positions that test knows");
}

TEST(Stream, GoesOnBeyondItsRingAndAttendsToTheLastTokensAlone) {
  Random random(4);
  const BrainShape a = random_architecture(random);
  StepOptions o;
  o.window = 6;
  o.compute = o.decoder_storage = DType::f64;
  const SessionPointer one(new_session(build_stream(a, o))), other(new_session(build_stream(a, o)));
  for (Session* session : {one.get(), other.get()}) initialize(session->model, session->program, 4);
  Stream first(one->model, one->program), second(other->model, other->program);
  const auto keys = [](Session& s) { return s.program.view(s.model.state[0]); };
  ASSERT_EQ(one->model.graph.tensors()[one->model.state[0].index].name, "hippocampus.keys");
  ASSERT_EQ(keys(*one)[1], 6);
  for (int t = 0; t < 100; ++t) {
    const TensorView logits = first.step(t % 40);
    for (std::int64_t v = 0; v < a.vocabulary; ++v) ASSERT_TRUE(std::isfinite(element(logits, v)));
  }
  // Another past of the same length. From here on the second stream gets the first one's recurrent states before every token, so
  // that only the rings' contents differ.
  for (int t = 0; t < 100; ++t) second.step(39 - t % 40);
  bool differs = false;
  for (int t = 0; t < 12; ++t) {
    for (std::size_t s = 2; s < one->model.state.size(); ++s) {
      const TensorView from = one->program.view(one->model.state[s]), to = other->program.view(other->model.state[s]);
      std::memcpy(to.data, from.data, size_of(from.dtype) * static_cast<std::size_t>(from.elements()));
    }
    const TensorView left = first.step(7 + t), right = second.step(7 + t);
    bool equal = true;
    for (std::int64_t v = 0; v < a.vocabulary; ++v) equal = equal && element(left, v) == element(right, v);
    differs = differs || !equal;
    EXPECT_TRUE(t < 6 || equal) << t;  // after six tokens the ring holds nothing of either past
  }
  EXPECT_TRUE(differs);
}

class WeightFiles : public testing::Test {
 protected:
  WeightFiles() {
    Random random(11);
    architecture_ = random_architecture(random);
    options_.batch = 1, options_.window = 8;
    session_.reset(new_session(build_training(architecture_, options_)));
    initialize(session_->model, session_->program, 1);
    file_ = directory_.path("brain.safetensors");
    export_parameters(session_->model, session_->program, file_, nullptr);
  }
  std::vector<std::byte> persistent(Session& session) const {
    const std::byte* image = session.arena.data(ArenaKind::device);
    return {image, image + session.arena.plan().device.persistent};
  }
  // The file with one tensor's entry changed.
  std::string changed(const std::string& name, const std::function<void(TensorToWrite&)>& change) const {
    const Safetensors source(file_);
    std::vector<TensorToWrite> tensors;
    for (const auto& t : source.tensors()) {
      TensorToWrite out{t.name, t.dtype, t.shape, t.data.data()};
      if (t.name == name) change(out);
      if (!out.name.empty()) tensors.push_back(out);
    }
    const std::string path = directory_.path("changed.safetensors");
    write_safetensors(path, source.metadata(), tensors);
    return path;
  }
  // Refused with a sentence that names the tensor; nothing is replaced.
  void refuses(const std::string& name, const std::function<void(TensorToWrite&)>& change, const std::string& part) {
    SCOPED_TRACE(name);
    const SessionPointer other(new_session(build_training(architecture_, options_)));
    initialize(other->model, other->program, 2);
    const auto before = persistent(*other);
    EXPECT_ERROR(initialize_from(other->model, other->program, changed(name, change)), "changed.safetensors", name, part);
    EXPECT_TRUE(persistent(*other) == before);
  }

  TemporaryDirectory directory_;
  BrainShape architecture_;
  StepOptions options_;
  SessionPointer session_;
  std::string file_;
};

TEST_F(WeightFiles, GoOutAndComeBackBitForBit) {
  const SessionPointer other(new_session(build_training(architecture_, options_)));
  initialize(other->model, other->program, 2);
  EXPECT_FALSE(persistent(*other) == persistent(*session_));
  initialize_from(other->model, other->program, file_);
  EXPECT_TRUE(persistent(*other) == persistent(*session_));
  const std::string again = directory_.path("again.safetensors");
  export_parameters(other->model, other->program, again, nullptr);
  EXPECT_EQ(read_file(again), read_file(file_));
  const auto& tensors = other->model.graph.tensors();  // rebuilt from the wiring
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].name.ends_with(".readers")) continue;
    const TensorView a = session_->program.view({i}), b = other->program.view({i});
    EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<std::size_t>(a.elements()) * 4), 0);
  }
  EXPECT_EQ(to_json(parse_brain(Safetensors(file_).metadata().at("architecture"), "file")), to_json(architecture_));
}

TEST_F(WeightFiles, AreRefusedWithTheTensorsNameAndNothingReplaced) {
  std::vector<std::int32_t> wrong(4096, 1 << 20), negative(4096, -1);
  std::vector<double> wide(1 << 16);
  const auto gone = [](TensorToWrite& t) { t.name.clear(); };
  for (const char* name : {"embedding.weight", "broca.gain", "prefrontal.gate_bias", "decoder.weight"})
    refuses(name, gone, "is missing");
  for (const char* name : {"wiring.thalamus", "wiring.broca"}) refuses(name, gone, "is missing");
  refuses(
      "broca.gain",
      [](TensorToWrite& t) {
        t.shape = {t.shape[0] / 2, 2};
      },
      "has shape");
  refuses(
      "decoder.weight",
      [](TensorToWrite& t) {
        t.shape = {t.shape[1], t.shape[0]};
      },
      "has shape");
  refuses(
      "wiring.broca", [](TensorToWrite& t) { t.shape = {t.shape[0] * t.shape[1]}; }, "has shape");
  refuses(
      "wiring.broca", [&](TensorToWrite& t) { t.data = wrong.data(); }, "holds 1048576, but its values are below");
  refuses(
      "wiring.broca", [&](TensorToWrite& t) { t.data = negative.data(); }, "holds -1, but");
  refuses(
      "wiring.broca", [](TensorToWrite& t) { t.dtype = DType::f32; }, "needed");
  refuses(
      "decoder.weight", [](TensorToWrite& t) { t.dtype = DType::i32; }, "needed");
  refuses(
      "broca.gain", [](TensorToWrite& t) { t.dtype = DType::i32; }, "needed");
  EXPECT_ERROR(initialize_from(session_->model, session_->program, directory_.path("none")), "none does not exist");
}

}  // namespace
}  // namespace neurogen

// Checkpoints as files: refusals, conversions, the files that a directory keeps, and the remains of a failed save.
#include "engine/files/checkpoint.h"

#include <flatbuffers/flatbuffers.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cmath>
#include <csignal>

#include "checkpoint_generated.h"
#include "engine/run/weights.h"
#include "tests/engine/restart.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

using std::string;

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : random_(7), text_(text()) {}

  Tokens text() {
    settings_.architecture = random_brain(random_);
    settings_.options.batch = 2;
    settings_.options.window = 16;
    settings_.seed = 5;
    return random_text(random_, directory_, settings_.architecture, 200);
  }
  Session session(const Checkpoint* from = nullptr, DType decoder = DType::f32) const {
    StepOptions o = settings_.options;
    o.decoder_storage = decoder;
    return Session(planned(build_training(settings_.architecture, o), kPlenty), {}, from);
  }
  // A checkpoint of the session's current values, and its bytes.
  string save(const Session& session, const Standing& standing = {3, 9, 2.5}) const {
    RestartSettings settings = settings_;
    settings.options = session.model.options;
    const Manifest m = manifest_of(settings, text_);
    CheckpointDirectory directory(path(), 3, false);
    Saver saver(session, m, directory);
    EXPECT_EQ(saver.save(standing), Saved::yes) << saver.error();
    return read_file(directory.file(standing.steps));
  }
  string fresh(const Standing& standing = {3, 9, 2.5}) const {
    Session s = session();
    initialize(s.model, s.program, 5);
    return save(s, standing);
  }
  string path() const { return directory_.path("checkpoints"); }
  string file(const string& bytes) const { return directory_.file("changed.ngck", bytes); }
  static void flip(const string& path, std::size_t at) {
    std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(static_cast<std::streamoff>(at));
    const auto byte = static_cast<char>(f.get() ^ 4);
    f.seekp(static_cast<std::streamoff>(at));
    f.put(byte);
  }
  // Includes the size prefix.
  static std::size_t manifest_end(const string& bytes) {
    std::uint32_t prefix;
    std::memcpy(&prefix, bytes.data(), sizeof prefix);
    return prefix + sizeof prefix;
  }

  TemporaryDirectory directory_;
  Random random_;
  RestartSettings settings_;
  Tokens text_;
};

TEST_F(CheckpointTest, KeepsEveryByteAndEveryFact) {
  Session s = session();
  initialize(s.model, s.program, 5);
  const string bytes = save(s);
  const Checkpoint c(checkpoint_file(path()));
  EXPECT_EQ(c.path(), path() + "/step-000000003.ngck");
  const Manifest& m = c.manifest();
  const Manifest expected = manifest_of(settings_, text_);
  EXPECT_EQ(m.architecture, expected.architecture);
  EXPECT_EQ(std::tuple(m.standing.steps, m.standing.schedule_steps, m.standing.held_out_loss), std::tuple(3, 9, 2.5));
  EXPECT_EQ(std::tuple(m.seed, m.steps_per_epoch, m.text, m.tokenizer),
            std::tuple(5u, expected.steps_per_epoch, expected.text, 0u));
  EXPECT_EQ(std::tuple(m.options.batch, m.options.window, m.options.vocabulary_tile, m.options.document_end),
            std::tuple(2, 16, 1280, -1));
  EXPECT_EQ(std::tuple(m.rates.learning_rate, m.rates.table_rate, m.rates.decoder_rate, m.rates.warmup),
            std::tuple(4e-3, 0.25, 1e-3, 5));
  EXPECT_EQ(bytes.size(), c.image_begin() + s.arena.plan().device.persistent);
  EXPECT_EQ(c.image_begin() % 4096, 0u);
  EXPECT_EQ(std::memcmp(bytes.data() + c.image_begin(), s.arena.data(ArenaKind::device), s.arena.plan().device.persistent), 0);
  c.verify();
}

TEST_F(CheckpointTest, RefusesAFileOfAnyOtherLength) {
  const string bytes = fresh();
  const std::size_t end = manifest_end(bytes);
  for (const std::size_t length :
       std::initializer_list<std::size_t>{0, 1, 11, 12, end - 1, end, 4096, bytes.size() / 2, bytes.size() - 1}) {
    EXPECT_ERROR(Checkpoint(file(bytes.substr(0, length))), "changed.ngck");
  }
  EXPECT_ERROR(Checkpoint(file(bytes.substr(0, bytes.size() - 1))), "is damaged", "its manifest says");
  EXPECT_ERROR(Checkpoint(file(bytes + '\0')), "its manifest says");
  EXPECT_ERROR(Checkpoint(file("text")), "is not a checkpoint");
  EXPECT_ERROR(Checkpoint(directory_.path("none")), "does not exist");
}

TEST_F(CheckpointTest, RefusesEveryChangedByteOfTheManifestAndBehindIt) {
  string bytes = fresh();
  const std::size_t end = manifest_end(bytes);
  for (std::size_t at = 0; at < end; ++at) {
    for (const char mask : {'\x01', '\x80'}) {
      bytes[at] = static_cast<char>(bytes[at] ^ mask);
      EXPECT_ERROR(decode_manifest(std::as_bytes(std::span(bytes).first(end)), "changed"), "changed");
      bytes[at] = static_cast<char>(bytes[at] ^ mask);
    }
  }
  const string path = file(bytes);
  const auto begin = static_cast<std::size_t>(Checkpoint(path).image_begin());
  for (std::size_t at = 0; at < begin; at += at < 16 ? 1 : 37) {
    flip(path, at);
    EXPECT_ERROR(Checkpoint{path}, "changed.ngck");
    flip(path, at);
  }
}

TEST_F(CheckpointTest, VerifyNamesTheTensorThatChanged) {
  const Checkpoint whole(file(fresh()));
  for (std::size_t i = 0; i < whole.tensors().size(); ++i) {
    const Buffer& tensor = whole.manifest().tensors[i];
    for (const Bytes at : {Bytes{0}, tensor.bytes - 1, tensor.bytes}) {
      if (at == align_up(tensor.bytes)) continue;  // no padding after this one
      flip(whole.path(), whole.image_begin() + tensor.offset + at);
      EXPECT_ERROR(whole.verify(), "changed.ngck is damaged: " + tensor.name + " differs from what was saved");
      std::vector<Checkpoint::Fault> expected(whole.tensors().size(), Checkpoint::Fault::none);
      expected[i] = Checkpoint::Fault::damaged;
      EXPECT_EQ(whole.faults(), expected);
      EXPECT_ERROR(whole.verify({tensor.name}), tensor.name);
      whole.verify({whole.tensors()[i == 0 ? 1 : 0].name});  // no other is read
      flip(whole.path(), whole.image_begin() + tensor.offset + at);
    }
  }
}

// Correct checksums over misleading values.
TEST_F(CheckpointTest, RefusesValuesThatNoRunLeaves) {
  Session s = session();
  initialize(s.model, s.program, 5);
  const auto refuses = [&](TensorId id, std::int32_t value, const string& part) {
    std::int32_t before;
    s.program.read(id, &before, sizeof before, 4);
    s.program.write(id, &value, sizeof value, 4);
    save(s);
    const Checkpoint c(checkpoint_file(path()));
    c.verify();
    Session to = session(&c);
    EXPECT_ERROR(restore(to, c), part);
    EXPECT_ERROR(initialize_from(to.model, to.program, c.path()), part);
    s.program.write(id, &before, sizeof before, 4);
  };
  refuses(s.model.fixed[kWernicke].value, 1'000'000, "wiring.wernicke holds 1000000, but its values are below");
  refuses(s.model.fixed[kBroca].value, -1, "wiring.broca holds -1");
}

TEST_F(CheckpointTest, RefusesAManifestThatItWouldNotWrite) {
  const string bytes = fresh();
  const Checkpoint saved(checkpoint_file(path()));
  const Manifest& good = saved.manifest();
  decode_manifest(encode_manifest(good), "good");
  const auto refuses = [&](auto&& change, const string& part) {
    Manifest m = good;
    change(m);
    m.checksums.resize(m.tensors.size());
    EXPECT_ERROR(decode_manifest(encode_manifest(m), "bad"), part);
  };
  const string name = good.tensors[3].name, shape = to_string(good.tensors[3].shape);
  refuses([](Manifest& m) { m.tensors.erase(m.tensors.begin() + 3); }, "what follows " + good.tensors[2].name);
  refuses([](Manifest& m) { m.tensors.push_back(m.tensors[3]); }, "it lists " + name + " twice");
  refuses([](Manifest& m) { m.tensors[3].offset += 256; }, "what follows");
  refuses([](Manifest& m) { m.tensors[3].offset = m.tensors[2].offset; },
          "what follows " + good.tensors[2].name + " is not another tensor");
  refuses([](Manifest& m) { m.tensors.back().offset += 4096; }, "what follows");
  refuses(
      [](Manifest& m) {
        for (Buffer& tensor : m.tensors) tensor.offset += 256;
      },
      "no tensor starts at offset 0");
  refuses([](Manifest& m) { m.tensors[3].shape.back() += 1; }, name + " is not f32 [");
  refuses([](Manifest& m) { m.tensors[3].shape.back() = 0; }, name + " is not of a possible shape");
  refuses(
      [](Manifest& m) {
        m.tensors[3].shape = {std::int64_t{1} << 40, std::int64_t{1} << 40};
      },
      name + " is not of a possible shape");
  refuses([](Manifest& m) { m.tensors[3].dtype = DType::bf16; }, name + " is not bf16");
  refuses([](Manifest& m) { m.tensors[3].bytes -= 1; }, name + " is not f32");
  refuses([](Manifest& m) { m.tensors[3].name = ""; }, "a tensor's name is invalid");
  refuses([](Manifest& m) { m.tensors[3].name = "two\nlines"; }, "a tensor's name is invalid");
  refuses([](Manifest& m) { m.weights = 0; }, "its number of weights is 0");
  refuses([](Manifest& m) { m.weights = m.tensors.size() + 1; }, "its number of weights is");
  refuses([](Manifest& m) { m.options.compute = DType::i32; }, "the type of its products");
  refuses([](Manifest& m) { m.options.decoder_storage = DType::u8; }, "the type of its decoder");
  refuses([](Manifest& m) { m.options.window = 0; }, "its window is 0");
  refuses([](Manifest& m) { m.options.batch = INT64_MAX; }, "its batch is");
  refuses([](Manifest& m) { m.options.accumulate = 0; }, "its number of batches in a step is 0");
  refuses([](Manifest& m) { m.options.document_end = -2; }, "its document end is not a token");
  refuses([](Manifest& m) { m.options.clip = NAN; }, "its clip is nan");
  refuses([](Manifest& m) { m.rates.table_rate = -1; }, "a rate is -1");
  refuses([](Manifest& m) { m.options.optimizer = 2; }, "its optimizer is 2");
  refuses([](Manifest& m) { m.standing.steps = INT64_MAX / 20; }, "its steps is");
  refuses([](Manifest& m) { m.standing.steps = -1; }, "its steps is");

  // What only a model shows: the file is sound, but not this model's.
  const auto refuses_to_load = [&](auto&& change, const string& part) {
    Manifest m = good;
    change(m);
    const std::vector<std::byte> encoded = encode_manifest(m);
    string whole(reinterpret_cast<const char*>(encoded.data()), encoded.size());
    whole.resize(image_offset(encoded.size()));
    const Checkpoint other(file(whole + bytes.substr(saved.image_begin())));
    Session to = session();
    EXPECT_ERROR(go_on(to, other, true, true), part);
  };
  refuses_to_load([](Manifest& m) { m.tensors[3].name += "x"; }, name + "x, which this architecture has not");
  refuses_to_load([](Manifest& m) { std::swap(m.tensors[3].shape.front(), m.tensors[3].shape.back()); },
                  "has no " + name + " " + shape);
  Manifest m = good;
  m.architecture = "{\"broca\": 7}";
  const std::vector<std::byte> encoded = encode_manifest(m);
  string whole(reinterpret_cast<const char*>(encoded.data()), encoded.size());
  whole.resize(image_offset(encoded.size()));
  EXPECT_ERROR(check_architecture(Checkpoint(file(whole + bytes.substr(saved.image_begin()))), *settings_.architecture),
               "its architecture: not an architecture");
}

TEST_F(CheckpointTest, RefusesAnotherFormatVersion) {
  std::vector<std::byte> encoded = encode_manifest(Checkpoint(file(fresh())).manifest());
  schema::Manifest& manifest = *schema::GetMutableSizePrefixedManifest(encoded.data());
  manifest.mutate_version(1);
  manifest.mutate_checksum(0);
  manifest.mutate_checksum(XXH3_64bits(encoded.data(), encoded.size()));
  EXPECT_ERROR(decode_manifest(encoded, "old"), "old has format version 1, this program reads 2");
  // A manifest without the required field.
  flatbuffers::FlatBufferBuilder builder;
  const auto tensors = builder.CreateVector(std::vector<flatbuffers::Offset<schema::Tensor>>{});
  const auto architecture = builder.CreateString("{}");
  schema::ManifestBuilder empty(builder);
  empty.add_architecture(architecture);
  empty.add_tensors(tensors);
  schema::FinishSizePrefixedManifestBuffer(builder, empty.Finish());
  EXPECT_ERROR(decode_manifest(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())), "bare"), "checksum");
}

TEST_F(CheckpointTest, ConvertsStorageTypesAndSaysWhatIsLost) {
  Session narrow = session(nullptr, DType::bf16);
  initialize(narrow.model, narrow.program, 5);
  save(narrow);
  const Checkpoint c(checkpoint_file(path()));
  Session wide = session(&c);
  EXPECT_EQ(wide.begins_with, nullptr);
  EXPECT_EQ(conversion(c, wide.arena.plan()), Conversion::exact);
  restore(wide, c);
  const auto* from = narrow.program.view(narrow.model.parameter("decoder.weight").value).as<std::uint16_t>();
  const TensorView to = wide.program.view(wide.model.parameter("decoder.weight").value);
  for (std::int64_t i = 0; i < to.elements(); ++i) ASSERT_EQ(to.as<std::uint32_t>()[i], std::uint32_t{from[i]} << 16);
  save(wide, {4, 9, kUnknown});
  EXPECT_EQ(conversion(Checkpoint(checkpoint_file(path())), narrow.arena.plan()), Conversion::rounding);
  const TensorView gain = wide.program.view(wide.model.parameter("broca.gain").value);
  EXPECT_EQ(gain.as<float>()[3], 1.0f);
}

// Reading without training: a prefix of the file.
TEST_F(CheckpointTest, EvaluationTakesTheParametersAlone) {
  const string bytes = fresh();
  const Checkpoint c(checkpoint_file(path()));
  Session s(planned(build_evaluation(settings_.architecture, settings_.options), kPlenty), {}, &c);
  EXPECT_EQ(s.begins_with, &c);
  restore(s, c);
  const Bytes prefix = s.arena.plan().device.persistent;
  EXPECT_EQ(prefix, image_bytes(std::span(c.manifest().tensors).first(c.manifest().weights)));
  EXPECT_EQ(std::memcmp(s.arena.data(ArenaKind::device), bytes.data() + c.image_begin(), prefix), 0);
  // After the image's last page the arena is zero, as always.
  for (Bytes i = prefix; i < (prefix + 4095) / 4096 * 4096; ++i) EXPECT_EQ(s.arena.data(ArenaKind::device)[i], std::byte{0});
  EXPECT_EQ(copied_bytes(s.arena.data(ArenaKind::device), s.arena.block(ArenaKind::device).mapped()), 0u);
  s.arena.data(ArenaKind::device)[5] = std::byte{1};
  EXPECT_EQ(copied_bytes(s.arena.data(ArenaKind::device), s.arena.block(ArenaKind::device).mapped()), 4096u);
  EXPECT_EQ(read_file(c.path()), bytes);  // the file is not ours to change
}

// Saves and loads like a GPU, but without one: through the slots of the staging buffer, in tensors larger and smaller than these.
TEST_F(CheckpointTest, StagesWhatItCannotMap) {
  string json = settings_.architecture->json();
  json.replace(json.find("\"embedding\": "), json.find(", \"thalamus") - json.find("\"embedding\": "), "\"embedding\": 20480");
  settings_.architecture = parse_architecture(json, "wide");
  settings_.options.target.gpu = true;
  Session s = session();
  ASSERT_TRUE(s.model.ports.staging);
  initialize(s.model, s.program, 5);
  const string bytes = save(s);
  EXPECT_GT(s.arena.plan().buffers[s.model.parameter("embedding.weight").value.index].bytes, Bytes{5} << 20);
  const Checkpoint c(checkpoint_file(path()));
  c.verify();
  const std::vector<std::byte> image = persistent_bytes(s);
  EXPECT_EQ(std::memcmp(bytes.data() + c.image_begin(), image.data(), image.size()), 0);
  Session to = session();
  restore(to, c);
  EXPECT_TRUE(persistent_bytes(to) == image);
  // Both threads notice a failure in the middle.
  s.program.view(s.model.parameter("embedding.weight").value).as<float>()[100] = NAN;
  CheckpointDirectory d(path(), 3, false);
  Saver saver(s, manifest_of(settings_, text_), d);
  EXPECT_EQ(saver.save({7, 9}), Saved::not_finite);
  s.program.view(s.model.parameter("embedding.weight").value).as<float>()[100] = 0;
  EXPECT_EQ(saver.save({7, 9}), Saved::yes);
  Checkpoint(d.file(7)).verify();
}

TEST_F(CheckpointTest, ADirectoryKeepsTheNewestAndTheBest) {
  Session s = session();
  initialize(s.model, s.program, 5);
  const auto steps = [](const CheckpointDirectory& d) {
    std::vector<std::int64_t> list;
    for (const auto& entry : d.entries()) {
      list.push_back(entry.step);
      EXPECT_TRUE(std::filesystem::exists(d.file(entry.step)));
    }
    return list;
  };
  const auto save = [&](CheckpointDirectory& d, std::int64_t step, double loss) {
    Saver saver(s, manifest_of(settings_, text_), d);
    EXPECT_EQ(saver.save({step, 100, loss}), Saved::yes);
  };
  using List = std::vector<std::int64_t>;
  {
    CheckpointDirectory d(path(), 2, true);
    for (const auto& [step, loss] : {std::pair{1, kUnknown}, {2, 3.0}, {3, 2.0}, {4, 2.5}, {5, 2.25}, {6, kUnknown}}) {
      save(d, step, loss);
    }
    EXPECT_EQ(steps(d), (List{3, 5, 6}));
    EXPECT_ERROR(CheckpointDirectory(path(), 2, true), "is in use by another run");
  }
  directory_.file("checkpoints/saving.part", "half of one"), directory_.file("checkpoints/step-7.ngck", "not ours");
  {
    CheckpointDirectory d(path(), 1, true);  // learns the best one from the files
    EXPECT_EQ(steps(d), (List{3, 5, 6}));
    EXPECT_FALSE(std::filesystem::exists(directory_.path("checkpoints/saving.part")));
    save(d, 7, 2.1);
    EXPECT_EQ(steps(d), (List{3, 7}));
    save(d, 8, 1.0);
    EXPECT_EQ(steps(d), (List{8}));
    save(d, 1'234'567'890'123, 5);
    EXPECT_EQ(checkpoint_file(path()), path() + "/step-1234567890123.ngck");
  }
  EXPECT_TRUE(std::filesystem::exists(directory_.path("checkpoints/step-7.ngck")));
  EXPECT_ERROR(checkpoint_file(directory_.path("")), "holds no checkpoint");
  EXPECT_ERROR(CheckpointDirectory(directory_.path("text.bin"), 1, false), "cannot be used for checkpoints");
}

TEST_F(CheckpointTest, ASaveThatFailsLeavesTheOldOnes) {
  Session s = session();
  initialize(s.model, s.program, 5);
  CheckpointDirectory d(path(), 2, false);
  Saver saver(s, manifest_of(settings_, text_), d);
  ASSERT_EQ(saver.save({1, 9}), Saved::yes);
  const string good = read_file(d.file(1));
  const auto unchanged = [&] {
    EXPECT_EQ(read_file(d.file(1)), good);
    EXPECT_EQ(d.entries().size(), 1u);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path()), {}), 2);  // the checkpoint and the lock
  };
  // A limit on a file's size acts as a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  for (const rlim_t most : {rlim_t{100}, rlim_t{8192}, static_cast<rlim_t>(good.size() - 1)}) {
    const rlimit small{most, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const Saved result = saver.save({2, 9});
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(result, Saved::no);
    EXPECT_EQ(string(saver.error()), "the checkpoint of step 2 cannot be written in " + path() + ": File too large");
    unchanged();
  }
  // Values that are not finite, anywhere.
  for (const char* name : {"embedding.weight", "decoder.weight"}) {
    const TensorView weight = s.program.view(s.model.parameter(name).value);
    float& value = weight.as<float>()[weight.elements() - 1];
    for (const float bad : {HUGE_VALF, -HUGE_VALF, NAN}) {
      const float kept = std::exchange(value, bad);
      EXPECT_EQ(saver.save({2, 9}), Saved::not_finite);
      value = kept;
      unchanged();
    }
  }
  // The directory disappears and comes back.
  std::filesystem::rename(path(), directory_.path("elsewhere"));
  EXPECT_EQ(saver.save({2, 9}), Saved::no);
  EXPECT_EQ(string(saver.error()), "the checkpoint of step 2 cannot be created in " + path() + ": No such file or directory");
  // Another run takes its name: the files of the two never mix, even if the lock file was removed.
  {
    CheckpointDirectory other(path(), 2, false);
    EXPECT_EQ(saver.save({2, 9}), Saved::no);
    EXPECT_EQ(string(saver.error()), "the checkpoint of step 2 cannot be created in " + path() + ": Stale file handle");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path()), {}), 1);
    std::filesystem::remove(path() + "/.lock");
    EXPECT_ERROR(CheckpointDirectory(path(), 2, false), "is in use by another run");
  }
  std::filesystem::remove_all(path());
  std::filesystem::rename(directory_.path("elsewhere"), path());
  EXPECT_EQ(saver.save({2, 9}), Saved::yes);
  EXPECT_EQ(read_file(d.file(1)), good);
  Checkpoint(d.file(2)).verify();
}

TEST_F(CheckpointTest, KnowsTheWeightsOfItsText) {
  Manifest m = Checkpoint(file(fresh())).manifest();
  const std::size_t without = encode_manifest(m).size();
  m.text.weights = {2, 1};
  const std::vector<std::byte> encoded = encode_manifest(m);
  EXPECT_GT(encoded.size(), without);
  EXPECT_EQ(decode_manifest(encoded, "x").text, m.text);
  for (const std::int64_t wrong : {0, -1}) {
    m.text.weights[1] = wrong;
    EXPECT_ERROR(encode_manifest(m), "a weight of its text is");  // encoding also reads it back
  }
}

}  // namespace
}  // namespace neurogen

// Checkpoints with one fault and correct checksums are refused in a sentence that names the fault.
#include "tests/hostile/hostile.h"

#include <cmath>
#include <functional>

#include "engine/run/restore.h"
#include "tests/expect_error.h"
#include "tests/hostile/damage.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using std::string;

TEST(Hostile, EveryNumberOfTheManifest) {
  const string good = read_file(kVersion2);
  const auto check = [&](const char* field, auto&& mutate, const string& part, std::initializer_list<std::uint64_t> allowed) {
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{INT64_MAX}, UINT64_MAX,
                                      UINT64_MAX - 255, std::uint64_t{1} << 31}) {
      SCOPED_TRACE(testing::Message() << field << " is " << value);
      string bad = good;
      ASSERT_TRUE(mutate(manifest_in(bad), value));
      seal(bad);
      string sentence;
      if (bad == good || std::find(allowed.begin(), allowed.end(), value) != allowed.end()) continue;
      EXPECT_FALSE(accepts(bad, sentence));
      EXPECT_TRUE(is_sentence(sentence)) << sentence;
      EXPECT_NE(sentence.find(part), string::npos) << sentence << "\nlacks: " << part;
    }
  };
  const std::initializer_list<std::uint64_t> positive = {1, 2, INT64_MAX, std::uint64_t{1} << 31};
  using M = schema::Manifest;
#define CHECK(field, part, ...) \
  check(                        \
      #field, [](M& m, std::uint64_t v) { return m.mutate_##field(static_cast<decltype(m.field())>(v)); }, part, __VA_ARGS__)
  CHECK(version, "has format version", {1});
  CHECK(rank, "it is part", {0});
  CHECK(world, "it is part", {1});
  CHECK(steps, "its steps", {});
  CHECK(schedule_steps, "its schedule", {0, 1, 2, INT64_MAX, std::uint64_t{1} << 31});
  CHECK(epoch, "its place in the text", {});
  CHECK(epoch_step, "its place in the text", {});
  CHECK(steps_per_epoch, "", {INT64_MAX, std::uint64_t{1} << 31});
  CHECK(warmup, "its warm-up", {0, 1, 2, INT64_MAX, std::uint64_t{1} << 31});
  CHECK(batch, "its batch", {1, 2});
  CHECK(window, "its window", {1, 2});
  CHECK(vocabulary_tile, "its decoder's tile", positive);
  CHECK(text_tokens, "its text's length", {0, 1, 2, INT64_MAX, std::uint64_t{1} << 31});
  CHECK(document_end, "its document end is not a token", {0, 1, 2, UINT64_MAX});
  CHECK(weights, "its number of weights", {1, 2});
#undef CHECK
  for (const double value : {-1.0, -HUGE_VAL, HUGE_VAL, std::nan(""), 1e300}) {
    const auto real = [&](bool (M::*mutate)(double), const string& part) {
      string bad = good, sentence;
      ASSERT_TRUE((manifest_in(bad).*mutate)(value));
      seal(bad);
      EXPECT_FALSE(accepts(bad, sentence)) << value;
      EXPECT_NE(sentence.find(part), string::npos) << sentence;
    };
    real(&M::mutate_learning_rate, "a rate is"), real(&M::mutate_table_rate, "a rate is"),
        real(&M::mutate_synapse_rate, "a rate is");
    real(&M::mutate_decoder_rate, "a rate is"), real(&M::mutate_synapse_decay, "its decay is"),
        real(&M::mutate_clip, "its clip is");
  }
}

TEST(Hostile, EveryNumberOfATensor) {
  const TemporaryDirectory directory;
  const string good = read_file(kVersion2);
  const std::vector<Buffer> tensors = Checkpoint(kVersion2).manifest().tensors;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (const std::uint64_t value :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{INT64_MAX}, UINT64_MAX, UINT64_MAX - 255, std::uint64_t{1} << 31}) {
      for (int field = 0; field < 4; ++field) {
        string bad = good, sentence;
        schema::Tensor& tensor = *manifest_in(bad).mutable_tensors()->GetMutableObject(static_cast<flatbuffers::uoffset_t>(i));
        if (field == 0) tensor.mutate_offset(value);
        if (field == 1) tensor.mutate_bytes(value);
        if (field == 2) tensor.mutate_type(static_cast<schema::Type>(value));
        if (field == 3) tensor.mutable_shape()->Mutate(0, value);
        seal(bad);
        if (bad == good) continue;
        if (accepts(bad, sentence)) {  // another type of the same size: only a model's plan shows it
          EXPECT_EQ(field, 2);
          EXPECT_NE(refusal_to_load(directory.file("hostile", bad)).find(tensors[i].name), string::npos);
          continue;
        }
        const auto says = [&](const string& part) { return sentence.find(part) != string::npos; };
        const bool place = says("is not another tensor") || says("no tensor starts at offset 0") || says("a tensor's place is ");
        EXPECT_TRUE(field == 0 ? place : says(tensors[i].name + " is not ")) << sentence;
      }
    }
  }
}

// Two tensors that overlap, or have exchanged their offsets.
TEST(Hostile, TensorsThatOverlapOrChangePlaces) {
  const string good = read_file(kVersion2);
  for (const bool swapped : {false, true}) {
    string bad = good, sentence;
    auto* tensors = manifest_in(bad).mutable_tensors();
    schema::Tensor &a = *tensors->GetMutableObject(2), &b = *tensors->GetMutableObject(3);
    const std::uint64_t before = a.offset();
    a.mutate_offset(b.offset());
    if (swapped) b.mutate_offset(before);
    seal(bad);
    EXPECT_FALSE(accepts(bad, sentence));
    EXPECT_NE(sentence.find("is not another tensor"), string::npos) << sentence;
  }
}

// A shape vector that starts in the middle of itself: its numbers have unaligned addresses.
TEST(Hostile, AShapeThatIsNotAligned) {
  const string good = read_file(kVersion2);
  const Checkpoint whole(kVersion2);
  const auto& tensors = whole.manifest().tensors;
  int tried = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].shape[0] != static_cast<std::int64_t>(tensors[i].shape.size())) continue;
    ++tried;
    string bad = good, sentence;
    auto* tensor = manifest_in(bad).mutable_tensors()->GetMutableObject(static_cast<flatbuffers::uoffset_t>(i));
    auto* field = reinterpret_cast<flatbuffers::Table*>(tensor)->GetAddressOf(schema::Tensor::VT_SHAPE);
    flatbuffers::uoffset_t offset;
    std::memcpy(&offset, field, sizeof offset);
    offset += 4;
    std::memcpy(field, &offset, sizeof offset);
    seal(bad);
    EXPECT_FALSE(accepts(bad, sentence));
    EXPECT_NE(sentence.find(tensors[i].name + " is not "), string::npos) << sentence;
  }
  EXPECT_GT(tried, 0);
}

// Changes the architecture's name, or numbers to sizes that no machine could hold, without changing its length.
TEST(Hostile, EveryNumberOfTheArchitecture) { change_architecture(); }

TEST(Hostile, AManifestThatClaimsMore) {
  const TemporaryDirectory directory;
  for (const std::uint32_t claim : {0u, 1u, 8u, 1u << 20, 1u << 31, 0xFFFF'FFFFu, 0xFFFF'FFFBu}) {
    string bad = read_file(kVersion2);
    std::memcpy(bad.data(), &claim, sizeof claim);
    EXPECT_ERROR(Checkpoint(directory.file("hostile", bad)), "hostile is damaged: ");
  }
}

// With the checksum of such a tensor.
TEST(Hostile, ValuesThatAreNotFinite) {
  const TemporaryDirectory directory;
  const Checkpoint good(kVersion2);
  const std::size_t count = good.tensors().size();
  int tried = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Buffer& tensor = good.manifest().tensors[i];
    if (tensor.dtype != DType::f32) continue;
    ++tried;
    for (const float value : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
      string bad = read_file(kVersion2);
      char* const begin = bad.data() + good.image_begin() + tensor.offset;
      std::memcpy(begin + tensor.bytes - sizeof value, &value, sizeof value);
      manifest_in(bad)
          .mutable_tensors()
          ->GetMutableObject(static_cast<flatbuffers::uoffset_t>(i))
          ->mutate_checksum(XXH3_64bits(begin, tensor.bytes));
      seal(bad);
      const Checkpoint file(directory.file("hostile", bad));
      EXPECT_ERROR(file.verify(), file.path() + " is damaged: " + tensor.name + " holds values that are not finite");
      EXPECT_EQ(file.faults()[i], Checkpoint::Fault::not_finite);
      file.verify({good.tensors()[i == 0 ? 1 : 0].name});  // the others are intact
    }
  }
  EXPECT_GT(tried, 10);
}

TEST(Hostile, EveryWordOfTheManifest) { change_every_word(61); }
TEST(Hostile, EveryByteOfTheFile) { flip_every_byte(211); }
TEST(Hostile, EveryLength) { cut_everywhere(); }

}  // namespace
}  // namespace neurogen

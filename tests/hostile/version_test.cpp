// A checkpoint in version 2 of the format, the oldest that is read. It was made on a CPU by `train --batch 2 --seq 16 --seed 7
// --steps 3 --keep-best` from 500 random tokens, held out as well, for the brain that its manifest describes.
#include <cmath>

#include "engine/model/initialize.h"
#include "tests/engine/restart.h"
#include "tests/hostile/damage.h"

namespace neurogen {
namespace {

class Version2 : public testing::Test {
 protected:
  Session session(const Checkpoint* from, bool training = true) const {
    const SavedOptions& saved = file_.manifest().options;
    StepOptions options;
    options.batch = saved.batch, options.window = saved.window, options.vocabulary_tile = saved.vocabulary_tile;
    const ArchitecturePtr architecture = parse_architecture(file_.manifest().architecture, kVersion2);
    const Budget plenty{Bytes{1} << 40, 0};
    return {planned(training ? build_training(architecture, options) : build_evaluation(architecture, options), plenty), {}, from};
  }

  // Losses of four further steps, and the memory after them.
  Outcome train_on(const Checkpoint& from) const {
    std::string ids;
    for (int i = 0; i < 500; ++i) ids += {static_cast<char>(i * i % 64), 0};
    const Tokens text({directory_.file("text.bin", ids)}, nullptr);
    Session s = session(&from);
    go_on(s, from, true, false);
    Trainer trainer(s.model, s.program, text, from.manifest().rates, from.manifest().seed, 3);
    Outcome outcome;
    for (int step = 0; step < 4; ++step) outcome.losses.push_back(trainer.run_step(8).loss);
    EXPECT_EQ(trainer.step(), 7);
    outcome.persistent = persistent_bytes(s);
    return outcome;
  }

  // The same weights, then the same other tensors, in the opposite order, each at a multiple of `alignment`, as another version
  // might have placed them.
  std::string laid_out_otherwise(Bytes alignment) const {
    Manifest m = file_.manifest();
    const auto turn = [&](auto& list) {
      const auto rest = list.begin() + static_cast<std::ptrdiff_t>(m.weights);
      std::reverse(list.begin(), rest), std::reverse(rest, list.end());
    };
    turn(m.tensors), turn(m.checksums);
    std::string image;
    for (Buffer& tensor : m.tensors) {
      image.resize((image.size() + alignment - 1) / alignment * alignment);
      tensor.offset = image.size();
      const std::span<const std::byte> data = file_.find(tensor.name)->data;
      image.append(reinterpret_cast<const char*>(data.data()), data.size());
    }
    image.resize(image_bytes(m.tensors));
    const std::vector<std::byte> manifest = encode_manifest(m);
    std::string bytes(reinterpret_cast<const char*>(manifest.data()), manifest.size());
    bytes.resize(image_offset(manifest.size()));
    return directory_.file("older.ngck", bytes + image);
  }

  const Checkpoint file_{kVersion2};
  const TemporaryDirectory directory_;
};

TEST_F(Version2, IsMapped) {
  const Manifest& m = file_.manifest();
  EXPECT_EQ(parse_architecture(m.architecture, "it")->vocabulary(), 64);
  EXPECT_EQ(m.standing.steps, 3);
  EXPECT_EQ(m.seed, 7u);
  file_.verify();
  // Its layout equals that of today's plan: nothing is copied.
  Session s = session(&file_);
  EXPECT_EQ(s.begins_with, &file_);
  EXPECT_EQ(conversion(file_, s.arena.plan()), Conversion::none);
  restore(s, file_);
  for (const FileTensor& tensor : file_.tensors()) {
    const auto& buffers = s.arena.plan().buffers;
    const auto id = std::find_if(buffers.begin(), buffers.end(), [&](const Buffer& b) { return b.name == tensor.name; });
    ASSERT_NE(id, buffers.end()) << tensor.name;
    const std::byte* data = s.arena.data(ArenaKind::device) + id->offset;
    EXPECT_EQ(std::memcmp(data, tensor.data.data(), tensor.data.size()), 0) << tensor.name;
  }
}

TEST_F(Version2, TheOneBeforeIsRefused) {
  std::string bytes = read_file(kVersion2), sentence;
  manifest_in(bytes).mutate_version(1);
  seal(bytes);
  EXPECT_FALSE(accepts(bytes, sentence));
  EXPECT_EQ(sentence, "hostile has format version 1, this program reads 2: use the program that wrote it");
}

TEST_F(Version2, TrainsOn) {
  for (const double loss : train_on(file_).losses) EXPECT_TRUE(std::isfinite(loss) && loss < 6) << loss;
}

TEST_F(Version2, AnotherLayoutIsCopiedByName) {
  const Outcome mapped = train_on(file_);
  for (const Bytes alignment : {1, 64, 4096}) {
    SCOPED_TRACE(alignment);
    const Checkpoint older(laid_out_otherwise(alignment));
    EXPECT_TRUE(train_on(older) == mapped);
    Session evaluated = session(&older, false);
    EXPECT_EQ(evaluated.begins_with, nullptr);
    restore(evaluated, older);
    const std::vector<std::byte> weights = persistent_bytes(session(&file_, false));
    EXPECT_TRUE(persistent_bytes(evaluated) == weights);
    Session initialized = session(nullptr);
    initialize_from(initialized.model, initialized.program, older.path());
    EXPECT_EQ(std::memcmp(persistent_bytes(initialized).data(), weights.data(), weights.size()), 0);
  }
}

}  // namespace
}  // namespace neurogen

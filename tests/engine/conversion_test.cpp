// A checkpoint whose decoder does not fit into the 16 bits that it is to be stored in.
#include "tests/engine/restart.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

TEST(Conversion, RefusesWhatBecomesInfinite) {
  const TemporaryDirectory directory;
  Random random(7);
  RestartSettings settings;
  settings.architecture = random_brain(random);
  settings.options.batch = 2, settings.options.window = 16;
  const Tokens text = random_text(random, directory, settings.architecture, 200);
  const auto session = [&](DType decoder) {
    StepOptions o = settings.options;
    o.decoder_storage = decoder;
    return Session(planned(build_training(settings.architecture, o), kPlenty));
  };
  const auto decoder = [](const Session& s) { return s.program.view(s.model.parameter("decoder.weight").value); };
  Session wide = session(DType::f32);
  initialize(wide.model, wide.program, 5);
  const Manifest manifest = manifest_of(settings, text);
  for (const float value : {65504.0f, -65504.0f, 65510.0f, -1e6f}) {
    decoder(wide).as<float>()[7] = value;
    CheckpointDirectory saved(directory.path(std::to_string(value)), 1, false);
    ASSERT_EQ(Saver(wide, manifest, saved).save({3, 9}), Saved::yes);
    const Checkpoint from(checkpoint_file(saved.path()));
    Session narrow = session(DType::f16);
    initialize(narrow.model, narrow.program, 6);
    const auto before = persistent_bytes(narrow);
    if (std::abs(value) <= 65504) {
      go_on(narrow, from, true, true);
      EXPECT_EQ(decoder(narrow).as<std::uint16_t>()[7], value > 0 ? 0x7BFF : 0xFBFF);
    } else {
      EXPECT_ERROR(go_on(narrow, from, true, true), from.path() + ": decoder.weight holds", "which is infinite in f16");
      EXPECT_TRUE(persistent_bytes(narrow) == before);
    }
  }
}

}  // namespace
}  // namespace neurogen

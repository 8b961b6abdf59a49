// A brain for tests on a GPU.
#pragma once
#include "tests/engine/brains.h"

namespace neurogen {

inline BrainShape small_brain(std::int64_t vocabulary = 200) {
  BrainShape brain = parse_brain(R"({"name": "test", "vocabulary": 200, "embedding": 64, "pairs": 300, "softcap": 30,
    "thalamus": {"neurons": 256, "outputs": 64, "fan_in": 48}, "wernicke": {"neurons": 640, "outputs": 128, "fan_in": 64},
    "hippocampus": {"neurons": 640, "outputs": 128, "fan_in": 64}, "basal_ganglia": {"neurons": 96, "outputs": 32, "fan_in": 64},
    "prefrontal": {"neurons": 640, "outputs": 128, "fan_in": 96}, "broca": {"neurons": 640, "outputs": 128, "fan_in": 64}})",
                                 "test");
  brain.vocabulary = vocabulary;
  return brain;
}

}  // namespace neurogen

// A planned brain in memory: built, placed, bound, ready for its first values.
#pragma once
#include "engine/graph/program.h"
#include "engine/run/fit.h"

namespace neurogen {

// Not movable: the program points into it.
struct Session {
  // Takes the memory of a plan that fits, for the brain that the plan was made for.
  Session(Brain brain_, Plan plan)
      : brain(std::move(brain_)), device(static_cast<int>(brain.options.threads)), arena(std::move(plan)),
        program(brain.graph, arena, device) {}

  Brain brain;
  CpuDevice device;
  Arena arena;
  Program program;
};

}  // namespace neurogen

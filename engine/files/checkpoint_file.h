// A checkpoint under any name, wherever the program wants it: whole under its name, or what was there before.
#pragma once
#include <array>
#include <climits>
#include <string_view>

#include "engine/files/checkpoint_directory.h"

namespace neurogen {

class CheckpointFile final : public CheckpointPlace {
 public:
  // What the next one is called. Throws Error for a name that is none, or too long. Allocates nothing otherwise.
  void use(std::string_view path);

  const char* path() const override { return path_.data(); }
  int begin() override;
  bool finish(int descriptor, const Entry& entry) override;
  void abandon(int descriptor) override;

 private:
  std::array<char, PATH_MAX> path_{}, directory_{}, temporary_{};
};

}  // namespace neurogen

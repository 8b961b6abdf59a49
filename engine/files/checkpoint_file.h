// A checkpoint under any name, wherever the program wants it: whole under its name, or what was there before.
#pragma once
#include <string_view>

#include "engine/files/checkpoint_directory.h"
#include "engine/files/file_io.h"

namespace neurogen {

class CheckpointFile final : public CheckpointPlace {
 public:
  // Names the next checkpoint. Throws Error for an invalid name and for one that is too long; allocates nothing otherwise.
  void use(std::string_view path);

  const char* path() const override { return path_.data(); }
  int begin() override;
  bool finish(int descriptor, const Entry& entry) override;
  void abandon(int descriptor) override;

 private:
  PathBuffer path_{}, directory_{}, temporary_{};
};

}  // namespace neurogen

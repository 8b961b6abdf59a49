// A checkpoint under any name. It replaces an existing file atomically or not at all.
#pragma once
#include <string_view>

#include "engine/files/checkpoint_directory.h"
#include "engine/files/file_io.h"

namespace neurogen {

class CheckpointFile final : public CheckpointPlace {
 public:
  // Sets the next checkpoint's path. Throws Error if it is invalid or too long; allocates nothing otherwise.
  void use(std::string_view path);

  const char* path() const override { return path_.data(); }
  int begin() override;
  bool finish(int descriptor, const Entry& entry) override;
  void abandon(int descriptor) override;

 private:
  PathBuffer path_{}, directory_{}, temporary_{};
};

}  // namespace neurogen

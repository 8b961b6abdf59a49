// A checkpoint under any name. It replaces an existing file atomically or not at all.
#pragma once
#include <string_view>

#include "engine/files/atomic_file.h"
#include "engine/files/checkpoint_directory.h"

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
  PathBuffer path_{};
  Draft draft_;
};

}  // namespace neurogen

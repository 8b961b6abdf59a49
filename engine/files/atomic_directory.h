// Directories that appear under their name complete or not at all.
#pragma once
#include <string>
#include <string_view>

namespace neurogen {

// A directory that is being filled beside its final place, under a temporary name. Without commit() the destructor removes it; a
// killed program leaves it behind. Failures throw run-time Errors that name the directory and the system's reason.
class AtomicDirectory {
 public:
  // Throws Error if `path` exists, unless it is an empty directory.
  explicit AtomicDirectory(std::string path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  // The path of a file to write in it, with AtomicFile.
  std::string file(std::string_view name) const { return temporary_ + "/" + std::string(name); }
  void commit();

 private:
  std::string path_, temporary_;
};

}  // namespace neurogen

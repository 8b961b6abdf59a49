// Files that appear under their name complete or not at all.
#pragma once
#include <string>
#include <string_view>

#include "engine/files/file_io.h"

namespace neurogen {

enum class Existing { replaced, kept };  // what becomes of a file that already has the name

// A file that is being written. It has no name, so that nothing is left of it however the program ends. A file system without such
// files (NFS, FAT, FUSE) gives it a temporary name beside the final one, which a killed program leaves behind. Allocates nothing;
// functions that return false set errno.
class Draft {
 public:
  static constexpr std::size_t kLongestPath = PATH_MAX - 33;  // bytes; the rest is for a temporary name

  Draft() = default;
  ~Draft() { discard(); }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  // Opens a new file, for reading and writing, in the directory of `path`, whose links must have been followed.
  bool open(std::string_view path);
  int descriptor() const { return descriptor_; }
  // Syncs the file to disk, gives it the path in one step, in place of an existing file, and syncs the directory. If that fails,
  // the existing file stays; if only the last sync fails, the new one does. Replacing takes a temporary name for the time of two
  // calls of the system: a kill between them leaves the complete file under it. Existing::kept: fails with EEXIST if there is one,
  // also one that another program has just made (on a file system without hard links only an earlier one).
  bool publish(Existing existing = Existing::replaced);
  void discard();  // preserves errno

 private:
  bool take_temporary_name();  // creates the file if it is not open
  bool link(const char* name) const;
  bool put_in_place(Existing existing);

  int descriptor_ = -1;
  bool named_ = false;  // temporarily
  PathBuffer path_{}, directory_{}, temporary_{};
};

// Writes a draft. Without commit() the destructor discards it, and an existing file stays. Failures throw run-time Errors that name
// the file and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void overwrite(std::size_t begin, const void* data, std::size_t bytes);  // of the written bytes
  // Reads written bytes from `begin` on into `to`, at most `bytes`, and returns their number.
  std::size_t read(std::size_t begin, void* to, std::size_t bytes) const;
  void cut(std::size_t begin);  // truncates to `begin` bytes
  // Returns whether the file is there: false if an existing one was kept.
  bool commit(Existing existing = Existing::replaced);

 private:
  [[noreturn]] void fail(const char* verb, const char* advice = "") const;

  std::string path_;
  Draft draft_;
};

}  // namespace neurogen

// What this process asks of the files under one directory, by the system calls that the engine uses: recorded with their bytes,
// interrupted, cut short, or refused.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace neurogen {

struct DiskCall {
  enum Kind { make_directory, create, rename, remove, reserve, write, sync, sync_directory, note };
  Kind kind;
  std::string path, to;     // relative to the directory; of `rename` the new one is `to`
  int file = -1;            // files are numbered as they are created; not of directories
  std::uint64_t where = 0;  // `write`: from here; `reserve`: at least this size; `note`: a number of the test's
  std::string bytes;
};

namespace disk {

// From now on, until stop(), calls for files under `root` are recorded.
void record(const std::string& root);
std::vector<DiskCall> stop();
void note(std::uint64_t number);  // into the record

struct Faults {
  int refuse = -1, error = 0;  // the call of this number, from 0, fails with this errno
  bool interrupt = false;      // every second call is interrupted, of those that can be
  bool shorten = false;        // writes take a part of what they are given
};
// While recording: from now on.
void set_faults(const Faults& faults);
int refused();  // how many calls were, since set_faults()

}  // namespace disk
}  // namespace neurogen

// Intercepts this process's system calls for files under one directory, those that the engine uses: records them with their bytes,
// interrupts them, cuts them short, or refuses them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace neurogen {

struct DiskCall {
  enum Kind { make_directory, create, rename, remove, reserve, write, sync, sync_directory, note };
  Kind kind;
  std::string path, to;     // relative to the directory; `to`: the new name in `rename`
  int file = -1;            // files are numbered as they are created; directories have none
  std::uint64_t where = 0;  // `write`: from here; `reserve`: at least this size; `note`: the test's number
  std::string bytes;
};

namespace disk {

// Records calls for files under `root` until stop().
void record(const std::string& root);
std::vector<DiskCall> stop();
void note(std::uint64_t number);  // adds a number to the record

struct Faults {
  int refuse = -1, error = 0;  // the call of this number, from 0, fails with this errno
  bool interrupt = false;      // every second call that can be interrupted is
  bool shorten = false;        // writes accept only a part of their bytes
};
// Takes effect at once, while recording.
void set_faults(const Faults& faults);
int refused();  // number of refused calls since set_faults()

}  // namespace disk
}  // namespace neurogen

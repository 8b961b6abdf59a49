// A directory of checkpoints, step-000000123.ngck and so on: one run at a time, new ones put in place whole, old ones deleted.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace neurogen {

// A checkpoint by its own name, or the newest of a directory. Throws Error where there is none.
std::string checkpoint_file(const std::string& file_or_directory);

class CheckpointDirectory {
 public:
  struct Entry {
    std::int64_t step;
    double held_out_loss;  // not a number where it is not known
  };

  // Makes the directory if it is not there, locks it until the end, and removes what a killed save left behind. The newest
  // `keep` (at least 1) stay, with `keep_best` the one of the lowest held-out loss as well. Throws Error where another run
  // has the lock and where nothing can be written.
  CheckpointDirectory(std::string path, std::int64_t keep, bool keep_best);
  ~CheckpointDirectory();
  CheckpointDirectory(const CheckpointDirectory&) = delete;
  CheckpointDirectory& operator=(const CheckpointDirectory&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<Entry>& entries() const { return entries_; }  // the newest last
  std::string file(std::int64_t step) const;

  // A new file: begin() gives a descriptor to write to, finish() makes it safe on the disk, puts it in place under its name and
  // deletes those that are not kept, abandon() forgets it. False and -1 with errno where the system refuses; what was there
  // stays. The descriptor is closed in every case. Nothing is allocated.
  int begin();
  bool finish(int descriptor, const Entry& entry);
  void abandon(int descriptor);

 private:
  void prune(int directory);

  std::string path_;
  std::int64_t keep_;
  bool keep_best_;
  int lock_ = -1;
  std::vector<Entry> entries_;
};

}  // namespace neurogen

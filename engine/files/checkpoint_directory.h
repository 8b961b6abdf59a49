// A directory of checkpoints, step-000000123.ngck and so on: one run at a time, new ones put in place whole, old ones deleted.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace neurogen {

// Whether a directory of checkpoints may have a file of this name, without folders in front of it.
bool is_checkpoint_directory_name(std::string_view name);

// A checkpoint by its own name, or the newest of a directory. Throws Error where there is none.
std::string checkpoint_file(const std::string& file_or_directory);

// A place for a checkpoint. A new file: begin() gives a descriptor to write to, finish() makes it safe on the disk and puts it
// in place under its name, abandon() forgets it. False and -1 with errno where the system refuses; what was there stays. The
// descriptor is closed in every case. Nothing is allocated.
class CheckpointPlace {
 public:
  struct Entry {
    std::int64_t step;
    double held_out_loss;  // not a number where it is not known
  };

  virtual ~CheckpointPlace() = default;
  virtual const char* path() const = 0;
  virtual int begin() = 0;
  virtual bool finish(int descriptor, const Entry& entry) = 0;
  virtual void abandon(int descriptor) = 0;
};

class CheckpointDirectory final : public CheckpointPlace {
 public:
  // Makes the directory if it is not there, holds and locks it until the end, and removes what a killed save left behind. While it
  // is moved or deleted, or another one has its name, saves fail: they never reach a directory of another run. The newest `keep`
  // (at least 1) stay, with `keep_best` the one of the lowest held-out loss as well. Throws Error where another run has the lock
  // and where nothing can be written.
  CheckpointDirectory(std::string path, std::int64_t keep, bool keep_best);
  ~CheckpointDirectory() override;
  CheckpointDirectory(const CheckpointDirectory&) = delete;
  CheckpointDirectory& operator=(const CheckpointDirectory&) = delete;

  const std::vector<Entry>& entries() const { return entries_; }  // the newest last
  std::string file(std::int64_t step) const;

  const char* path() const override { return path_.c_str(); }
  int begin() override;
  bool finish(int descriptor, const Entry& entry) override;  // deletes those that are not kept
  void abandon(int descriptor) override;

 private:
  void prune();

  std::string path_;
  std::int64_t keep_;
  bool keep_best_;
  int directory_ = -1, lock_ = -1;
  std::vector<Entry> entries_;
};

}  // namespace neurogen

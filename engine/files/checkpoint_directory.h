// A directory of checkpoints, step-000000123.ngck and so on: used by one run at a time; new files appear complete, old ones are
// deleted.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace neurogen {

// Whether a file of this name (without folders) belongs to a directory of checkpoints.
bool is_checkpoint_directory_name(std::string_view name);

// Returns the file itself, or the newest checkpoint in a directory. Throws Error if there is none.
std::string checkpoint_file(const std::string& file_or_directory);

// A place for a checkpoint. begin() returns the descriptor of a new file; finish() syncs it to disk and renames it into place;
// abandon() discards it. They return -1 or false with errno if the system refuses; existing files stay. finish() and abandon()
// always close the descriptor. Nothing allocates.
class CheckpointPlace {
 public:
  struct Entry {
    std::int64_t step;
    double held_out_loss;  // NaN if unknown
  };

  virtual ~CheckpointPlace() = default;
  virtual const char* path() const = 0;
  virtual int begin() = 0;
  virtual bool finish(int descriptor, const Entry& entry) = 0;
  virtual void abandon(int descriptor) = 0;
};

class CheckpointDirectory final : public CheckpointPlace {
 public:
  // Creates the directory if needed, keeps it open and locked, and removes the remains of a killed save. If it is moved, deleted or
  // replaced, saves fail rather than reach a directory of another run. The newest `keep` (at least 1) stay; with `keep_best` also
  // the one with the lowest held-out loss. Throws Error if another run has the lock or the directory is not writable.
  CheckpointDirectory(std::string path, std::int64_t keep, bool keep_best);
  ~CheckpointDirectory() override;
  CheckpointDirectory(const CheckpointDirectory&) = delete;
  CheckpointDirectory& operator=(const CheckpointDirectory&) = delete;

  const std::vector<Entry>& entries() const { return entries_; }  // the newest last
  std::string file(std::int64_t step) const;

  const char* path() const override { return path_.c_str(); }
  int begin() override;
  bool finish(int descriptor, const Entry& entry) override;  // also deletes old ones
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

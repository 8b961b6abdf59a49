// The run's log: one JSON object per line, each written at once, so that a reader following the file sees whole lines.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace neurogen {

inline constexpr int kLogLevels = 16;  // maximal nesting of a line; ours have five

// The run to be logged.
struct LoggedRun {
  std::string identity;          // "run" of its log's first event; no text that JSON escapes
  bool from_checkpoint = false;  // it resumes from a checkpoint
};

class Log {
 public:
  Log() = default;  // writes nothing
  // Overwrites nothing. A run from a checkpoint appends to its own log; any other log is first renamed to kept_as(). Throws Error
  // for any other existing file, and if the file is not writable.
  Log(const std::string& path, const LoggedRun& run);
  Log(Log&& other) noexcept;
  Log& operator=(Log&& other) noexcept;
  ~Log();

  // Writes `object`, given without newline. A line that cannot be written is lost as a whole. Allocates nothing.
  void line(std::string_view object);
  std::int64_t lost() const { return lost_; }
  const std::string& path() const { return path_; }
  const std::string& kept_as() const { return kept_as_; }  // empty: there was no other log
  int error() const { return error_; }                     // errno of the last lost line
  // Syncs the lines so far to disk, if the log is a file. Allocates nothing.
  void sync();

 private:
  std::string path_, kept_as_;
  int descriptor_ = -1, error_ = 0;
  std::int64_t lost_ = 0;
};

// Removes from the end of a log the lines that a run resumed after `step` will write again: those of later steps, a summary, and an
// incomplete line; also the line about that very checkpoint if it comes among them. The rest is the log of a run that stopped
// there. Does nothing if there is no regular file.
void rewind_log(const std::string& path, std::int64_t step);

}  // namespace neurogen

// The run's log: one JSON object a line, each written at once, so that whoever follows the file sees whole lines.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace neurogen {

inline constexpr int kLogLevels = 16;  // to which a line may nest; ours have five

// The run that is about to log.
struct LoggedRun {
  std::string architecture;  // JSON
  std::int64_t seed = 0;
  bool from_checkpoint = false;  // it resumes from one
};

class Log {
 public:
  Log() = default;  // writes nothing
  // Overwrites nothing. A run from a checkpoint appends to its own log; a new run first renames an earlier log to kept_as(). Throws
  // Error for any other file, and if nothing can be written.
  Log(const std::string& path, const LoggedRun& run);
  Log(Log&& other) noexcept;
  Log& operator=(Log&& other) noexcept;
  ~Log();

  // `object` without its newline. Lines that the system refuses are lost, whole. Allocates nothing.
  void line(std::string_view object);
  std::int64_t lost() const { return lost_; }
  const std::string& path() const { return path_; }
  const std::string& kept_as() const { return kept_as_; }  // empty: there was no earlier log
  int error() const { return error_; }                     // errno of the line lost last
  // Makes the lines so far safe on the disk, where there is one. Allocates nothing.
  void sync();

 private:
  std::string path_, kept_as_;
  int descriptor_ = -1, error_ = 0;
  std::int64_t lost_ = 0;
};

// Takes off the end of a log what a run that goes on after `step` will write again: the lines of later steps, a summary, and a
// line that was cut short; and with them the line about that very checkpoint, where it stands among them. What is left is the log
// of a run that stopped there. Does nothing where there is no regular file.
void rewind_log(const std::string& path, std::int64_t step);

}  // namespace neurogen

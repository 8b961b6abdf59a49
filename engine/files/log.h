// The run's log: one JSON object a line, each written at once, so that whoever follows the file sees whole lines.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace neurogen {

class Log {
 public:
  Log() = default;  // writes nothing
  // Appends if `append`, else starts the file anew. Throws Error if it cannot be opened.
  Log(const std::string& path, bool append);
  Log(Log&& other) noexcept;
  Log& operator=(Log&& other) noexcept;
  ~Log();

  // `object` without its newline. Throws Error if the disk refuses. Allocates nothing.
  void line(std::string_view object);
  // Until now on the disk, where there is one. Allocates nothing.
  void sync();

 private:
  std::string path_;
  int descriptor_ = -1;
};

// Takes off the end of a log what a run that goes on after `step` will write again: the lines of later steps, a summary, and a
// line that was cut short; and with them the line about that very checkpoint, where it stands among them. What is left is that of
// a run which stopped there. Does nothing where there is no regular file.
void rewind_log(const std::string& path, std::int64_t step);

}  // namespace neurogen

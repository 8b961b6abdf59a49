// The run's log: one JSON object a line, each written at once, so that whoever follows the file sees whole lines.
#pragma once
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

  // `object` without its newline, shorter than 4,096 bytes unless nothing is sealed yet. Throws Error if the disk refuses.
  void line(std::string_view object);

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace neurogen

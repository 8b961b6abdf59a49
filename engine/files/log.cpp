#include "engine/files/log.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "arena/error.h"
#include "engine/files/file_io.h"

namespace neurogen {

Log::Log(const std::string& path, bool append) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0644);
  if (descriptor_ < 0) throw Error(path + ": cannot write the log: " + std::strerror(errno));
}

Log::Log(Log&& other) noexcept : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

Log& Log::operator=(Log&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Log::~Log() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Log::line(std::string_view object) {
  if (descriptor_ < 0) return;
  char newline = '\n';
  iovec parts[2] = {{const_cast<char*>(object.data()), object.size()}, {&newline, 1}};
  int first = 0;
  while (first < 2) {
    const ssize_t written = ::writev(descriptor_, parts + first, 2 - first);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Error(path_ + ": cannot write the log: " + std::strerror(errno), Error::kRunTime);
    auto rest = static_cast<std::size_t>(written);
    while (first < 2 && rest >= parts[first].iov_len) rest -= parts[first++].iov_len;
    if (first < 2) {
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + rest;
      parts[first].iov_len -= rest;
    }
  }
}

void Log::sync() {
  if (descriptor_ >= 0) ::fdatasync(descriptor_);
}

void rewind_log(const std::string& path, std::int64_t step) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return;
  const MappedFile file(path);
  std::size_t kept = file.text().rfind('\n') + 1;
  for (std::string_view text = file.text().substr(0, kept); !text.empty();) {
    const std::string_view without_end = text.substr(0, text.size() - 1);
    const std::size_t begin = without_end.rfind('\n') + 1;  // 0 in the first line
    const auto event = nlohmann::json::parse(without_end.substr(begin), nullptr, false);
    if (!event.is_object()) break;
    const auto kind = event.value("event", nlohmann::json());
    const bool later =
        event.contains("step") && event["step"].is_number() && event["step"].get<double>() > static_cast<double>(step);
    text = text.substr(0, begin);
    if (kind == "summary" || later) kept = begin;
    else if (kind != "checkpoint" && kind != "checkpoint_failed") break;  // a save beside training is told of after later steps
  }
  if (kept == file.text().size()) return;
  std::filesystem::resize_file(path, kept, error);
  if (error) throw Error(path + ": cannot write the log: " + error.message());
}

}  // namespace neurogen

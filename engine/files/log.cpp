#include "engine/files/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"

namespace neurogen {

namespace {

constexpr std::string_view kBegins[] = {R"({"event":"start",)", R"({"event":"resume",)"};

bool is_log(std::string_view text) {
  return std::any_of(std::begin(kBegins), std::end(kBegins), [&](std::string_view begin) { return text.starts_with(begin); });
}

// Whether a log's first line names this run. An incomplete line counts as a match.
bool is_of(std::string_view text, const LoggedRun& run, const std::string& path) {
  const std::size_t end = text.find('\n');
  if (end == text.npos) return true;
  const auto event = parse_json(text.substr(0, end), kLogLevels, path);
  return event.is_object() && event.value("run", nlohmann::json()) == run.identity;
}

// An unused name next to `path`.
std::string name_beside(const std::string& path) {
  for (int number = 1;; ++number) {
    const std::string name = fmt::format("{}.{}", path, number);
    std::error_code ignored;
    if (!std::filesystem::exists(std::filesystem::symlink_status(name, ignored))) return name;
  }
}

// Checks or renames an existing file, as described at the constructor of Log; returns the new name of another log.
std::string claim(const std::string& path, const LoggedRun& run) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error) || std::filesystem::file_size(path, error) == 0) return "";
  const MappedFile file(path);
  if (!is_log(file.text())) throw Error({path + " already exists and is not a log: name another file with ", Field("log")});
  if (run.from_checkpoint && is_of(file.text(), run, path)) return "";
  const std::string kept = name_beside(path);
  std::filesystem::rename(path, kept, error);
  if (error) throw Error({fmt::format("{} cannot be kept as {}: {}: name another ", path, kept, error.message()), Field("log")});
  return kept;
}

}  // namespace

Log::Log(const std::string& path, const LoggedRun& run) : path_(path), kept_as_(claim(path, run)) {
  // Without O_NONBLOCK, opening a pipe without a reader would block.
  descriptor_ = uninterrupted([&] { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND | O_NONBLOCK, 0644); });
  if (descriptor_ < 0 && errno == ENXIO) throw Error(path + " is a pipe that nobody reads: start its reader first");
  if (descriptor_ < 0) throw Error(path + ": cannot write the log: " + std::strerror(errno));
  ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) & ~O_NONBLOCK);
}

Log::Log(Log&& other) noexcept
    : path_(std::move(other.path_)),
      kept_as_(std::move(other.kept_as_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      error_(other.error_),
      lost_(other.lost_) {}

Log& Log::operator=(Log&& other) noexcept {
  Log taken(std::move(other));  // frees what this one held
  std::swap(path_, taken.path_);
  std::swap(kept_as_, taken.kept_as_);
  std::swap(descriptor_, taken.descriptor_);
  std::swap(error_, taken.error_);
  std::swap(lost_, taken.lost_);
  return *this;
}

Log::~Log() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Log::line(std::string_view object) {
  if (descriptor_ < 0) return;
  char newline = '\n';
  iovec parts[2] = {{const_cast<char*>(object.data()), object.size()}, {&newline, 1}};
  std::size_t done = 0;
  for (int first = 0; first < 2;) {
    const ssize_t written = uninterrupted([&] { return ::writev(descriptor_, parts + first, 2 - first); });
    if (written < 0) {
      error_ = errno;
      ++lost_;
      // Remove the partial line. A pipe cannot be truncated and is closed.
      if (done > 0 && ::ftruncate(descriptor_, ::lseek(descriptor_, 0, SEEK_END) - static_cast<off_t>(done)) != 0)
        ::close(std::exchange(descriptor_, -1));
      return;
    }
    auto rest = static_cast<std::size_t>(written);
    done += rest;
    while (first < 2 && rest >= parts[first].iov_len) rest -= parts[first++].iov_len;
    if (first < 2) {
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + rest;
      parts[first].iov_len -= rest;
    }
  }
}

void Log::sync() {
  if (descriptor_ >= 0) uninterrupted([&] { return ::fdatasync(descriptor_); });
}

void rewind_log(const std::string& path, std::int64_t step) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return;
  const MappedFile file(path);
  std::size_t kept = file.text().rfind('\n') + 1;
  for (std::string_view text = file.text().substr(0, kept); !text.empty();) {
    const std::string_view without_end = text.substr(0, text.size() - 1);
    const std::size_t begin = without_end.rfind('\n') + 1;  // 0 in the first line
    const auto event = parse_json(without_end.substr(begin), kLogLevels, path);
    if (!event.is_object()) break;
    const auto kind = event.value("event", nlohmann::json());
    const bool later =
        event.contains("step") && event["step"].is_number() && event["step"].get<double>() > static_cast<double>(step);
    text = text.substr(0, begin);
    if (kind == "summary" || later) kept = begin;
    else if (kind != "checkpoint" && kind != "checkpoint_failed") break;  // a concurrent save is logged after later steps
  }
  if (kept == file.text().size()) return;
  std::filesystem::resize_file(path, kept, error);
  if (error) throw Error(path + ": cannot write the log: " + error.message());
}

}  // namespace neurogen

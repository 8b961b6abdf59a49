#include "engine/files/checkpoint_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>

#include "arena/error.h"
#include "engine/files/checkpoint.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

constexpr const char* kLock = ".lock";
constexpr const char* kPart = "saving.part";  // one is enough: the directory is locked
constexpr std::string_view kBegin = "step-", kEnd = ".ngck";
constexpr std::size_t kDigits = 9;  // at least, so that names sort by step

using Name = std::array<char, 48>;
Name name_of(std::int64_t step) {
  Name name{};
  fmt::format_to_n(name.data(), name.size() - 1, "{}{:0{}}{}", kBegin, step, kDigits, kEnd);
  return name;
}

std::optional<std::int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd)) return {};
  const std::string_view digits = name.substr(kBegin.size(), name.size() - kBegin.size() - kEnd.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc{} || step < 0 || name != name_of(step).data()) return {};
  return step;
}

std::vector<std::int64_t> steps_in(const std::string& directory) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (const auto step = step_of(at->path().filename().native())) steps.push_back(*step);
  }
  if (error) throw Error(fmt::format("{} cannot be read: {}", directory, error.message()));
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string join(const std::string& directory, std::int64_t step) {
  return directory + (directory.ends_with('/') ? "" : "/") + name_of(step).data();
}

int open_directory(const std::string& path) { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

// A crash of the machine takes a directory that was just made unless what it lies in is on the disk too.
void sync_parents(const std::string& path) {
  std::error_code error;
  for (auto at = std::filesystem::canonical(path, error); !error && at.has_relative_path();) {
    at = at.parent_path();
    const int directory = open_directory(at);
    if (directory < 0) continue;  // not ours to read: whoever made what is in it has to see to it
    fsync(directory);
    close(directory);
  }
}

// Of a file in a directory; not a number where it cannot be read.
double held_out_loss_of(const std::string& file) {
  try {
    return Checkpoint(file).manifest().standing.held_out_loss;
  } catch (const Error&) {
    return NAN;
  }
}

}  // namespace

std::string checkpoint_file(const std::string& file_or_directory) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(file_or_directory, ignored)) return file_or_directory;
  const std::vector<std::int64_t> steps = steps_in(file_or_directory);
  if (steps.empty()) throw Error(file_or_directory + " holds no checkpoint (step-*.ngck): name another directory or a file");
  return join(file_or_directory, steps.back());
}

CheckpointDirectory::CheckpointDirectory(std::string path, std::int64_t keep, bool keep_best)
    : path_(std::move(path)), keep_(keep), keep_best_(keep_best) {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  const int directory = open_directory(path_);
  if (directory < 0) throw Error(fmt::format("{} cannot be used for checkpoints: {}", path_, std::strerror(errno)));
  lock_ = openat(directory, kLock, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0 || flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    close(directory);
    if (lock_ >= 0) close(lock_);
    if (why == EWOULDBLOCK) throw Error(path_ + " is in use by another run: wait until it ends or name another --checkpoint-dir");
    throw Error(fmt::format("{} cannot be locked for checkpoints: {}", path_, std::strerror(why)));
  }
  unlinkat(directory, kPart, 0);
  close(directory);
  for (const std::int64_t step : steps_in(path_)) entries_.push_back({step, keep_best_ ? held_out_loss_of(file(step)) : NAN});
  if (entries_.empty()) sync_parents(path_);
  entries_.reserve(entries_.size() + static_cast<std::size_t>(keep_) + 2);
}

CheckpointDirectory::~CheckpointDirectory() { close(lock_); }

std::string CheckpointDirectory::file(std::int64_t step) const { return join(path_, step); }

int CheckpointDirectory::begin() {
  const int directory = open_directory(path_);
  if (directory < 0) return -1;
  const int file = openat(directory, kPart, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  close_quietly(directory);
  return file;
}

bool CheckpointDirectory::finish(int descriptor, const Entry& entry) {
  const int directory = open_directory(path_);
  const bool in_place =
      directory >= 0 && fsync(descriptor) == 0 && renameat(directory, kPart, directory, name_of(entry.step).data()) == 0;
  if (!in_place) {
    if (directory >= 0) close_quietly(directory);
    abandon(descriptor);
    return false;
  }
  close(descriptor);
  std::erase_if(entries_, [&](const Entry& old) { return old.step == entry.step; });
  entries_.push_back(entry);
  // The new name is safe once its directory is on the disk too; until then nothing is deleted for it.
  const bool safe = fsync(directory) == 0 || errno == EINVAL;
  if (safe) prune(directory);
  close_quietly(directory);
  return safe;
}

void CheckpointDirectory::abandon(int descriptor) {
  close_quietly(descriptor);
  const int why = errno;
  const int directory = open_directory(path_);
  if (directory >= 0) {
    unlinkat(directory, kPart, 0);
    close(directory);
  }
  errno = why;
}

void CheckpointDirectory::prune(int directory) {
  std::int64_t best = -1;
  double lowest = HUGE_VAL;
  for (const Entry& entry : entries_) {
    if (keep_best_ && entry.held_out_loss < lowest) best = entry.step, lowest = entry.held_out_loss;
  }
  for (auto old = entries_.begin(); entries_.end() - old > keep_;) {
    if (old->step == best) {
      ++old;
    } else {
      unlinkat(directory, name_of(old->step).data(), 0);
      old = entries_.erase(old);
    }
  }
}

}  // namespace neurogen

#include "engine/files/checkpoint_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
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

// Syncs the parents of a new directory: otherwise a crash of the machine may lose it.
void sync_parents(const std::string& path) {
  std::error_code error;
  for (auto at = std::filesystem::canonical(path, error); !error && at.has_relative_path();) {
    at = at.parent_path();
    const int directory = open_directory(at);
    if (directory < 0) continue;  // not readable for us: its owner has to sync it
    fsync(directory);
    close(directory);
  }
}

// NaN if the file cannot be read.
double held_out_loss_of(const std::string& file) {
  try {
    return Checkpoint(file).manifest().standing.held_out_loss;
  } catch (const Error&) {
    return NAN;
  }
}

}  // namespace

bool is_checkpoint_directory_name(std::string_view name) { return name == kLock || name == kPart || step_of(name).has_value(); }

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
  directory_ = open_directory(path_);
  if (directory_ < 0) {
    const std::string why = error ? error.message() : std::strerror(errno);
    throw Error(fmt::format("{} cannot be used for checkpoints: {}", path_, why));
  }
  lock_ = uninterrupted([&] { return openat(directory_, kLock, O_RDWR | O_CREAT | O_CLOEXEC, 0644); });
  // Lock both: removing the lock file must not let another run in, and some network file systems do not lock directories.
  const auto locked = [](int descriptor) { return uninterrupted([&] { return flock(descriptor, LOCK_EX | LOCK_NB); }) == 0; };
  if (lock_ < 0 || !locked(lock_) || (!locked(directory_) && errno == EWOULDBLOCK)) {
    const int why = errno;
    close(directory_);
    if (lock_ >= 0) close(lock_);
    if (why == EWOULDBLOCK)
      throw Error({path_ + " is in use by another run: wait until it ends or name another ", Field("checkpoint_dir")});
    throw Error(fmt::format("{} cannot be locked for checkpoints: {}", path_, std::strerror(why)));
  }
  unlinkat(directory_, kPart, 0);
  for (const std::int64_t step : steps_in(path_)) entries_.push_back({step, keep_best_ ? held_out_loss_of(file(step)) : NAN});
  if (entries_.empty()) sync_parents(path_);
  entries_.reserve(entries_.size() + static_cast<std::size_t>(keep_) + 2);
}

CheckpointDirectory::~CheckpointDirectory() {
  close(lock_);
  close(directory_);
}

std::string CheckpointDirectory::file(std::int64_t step) const { return join(path_, step); }

int CheckpointDirectory::begin() {
  struct stat named {
  }, held{};
  if (stat(path_.c_str(), &named) != 0 || fstat(directory_, &held) != 0) return -1;
  if (named.st_dev != held.st_dev || named.st_ino != held.st_ino) {
    errno = ESTALE;
    return -1;
  }
  return uninterrupted([&] { return openat(directory_, kPart, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644); });
}

bool CheckpointDirectory::finish(int descriptor, const Entry& entry) {
  const bool in_place = uninterrupted([&] { return fsync(descriptor); }) == 0 &&
                        uninterrupted([&] { return renameat(directory_, kPart, directory_, name_of(entry.step).data()); }) == 0;
  if (!in_place) {
    abandon(descriptor);
    return false;
  }
  close(descriptor);
  std::erase_if(entries_, [&](const Entry& old) { return old.step == entry.step; });
  entries_.push_back(entry);
  // The new file is safe once its directory is synced too; until then delete nothing.
  const bool safe = sync_directory(directory_);
  if (safe) prune();
  return safe;
}

void CheckpointDirectory::abandon(int descriptor) {
  close_quietly(descriptor);
  const int why = errno;
  unlinkat(directory_, kPart, 0);
  errno = why;
}

void CheckpointDirectory::prune() {
  std::int64_t best = -1;
  double lowest = HUGE_VAL;
  for (const Entry& entry : entries_) {
    if (keep_best_ && entry.held_out_loss < lowest) best = entry.step, lowest = entry.held_out_loss;
  }
  for (auto old = entries_.begin(); entries_.end() - old > keep_;) {
    if (old->step == best) {
      ++old;
    } else {
      unlinkat(directory_, name_of(old->step).data(), 0);
      old = entries_.erase(old);
    }
  }
}

}  // namespace neurogen

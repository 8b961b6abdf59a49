#include "engine/files/atomic_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "arena/error.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

Error failed(const std::string& path, const char* what) {
  return Error(path + " cannot be " + what + ": " + std::strerror(errno), Error::kRunTime);
}

}  // namespace

AtomicDirectory::AtomicDirectory(std::string path) : path_(std::move(path)) {
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  std::error_code unknown;
  const bool there = std::filesystem::exists(std::filesystem::symlink_status(path_, unknown));
  if (there && !(std::filesystem::is_directory(path_, unknown) && std::filesystem::is_empty(path_, unknown)))
    throw Error(path_ + " exists and is not an empty directory: name another one");
  temporary_ = path_ + ".XXXXXX";
  if (!mkdtemp(temporary_.data())) {
    temporary_.clear();
    throw failed(path_, "created");
  }
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

void AtomicDirectory::commit() {
  const mode_t mask = umask(0);
  umask(mask);
  // mkdtemp's directory is its owner's alone. An empty directory gives way to another in one step.
  if (chmod(temporary_.c_str(), 0777 & ~mask) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0)
    throw failed(path_, "created");
  temporary_.clear();
  const std::size_t length = directory_length(path_);
  const std::string parent = length == 0 ? "." : path_.substr(0, length);
  const int directory = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = directory >= 0 && sync_directory(directory);
  if (directory >= 0) close_quietly(directory);
  if (!synced) throw failed(path_, "synced to disk");
}

}  // namespace neurogen

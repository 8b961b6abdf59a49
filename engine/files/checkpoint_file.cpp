#include "engine/files/checkpoint_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "arena/error.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

constexpr std::size_t kLongestEnd = 32;  // longest suffix of a temporary name

std::atomic<unsigned> temporaries{0};

void copy_to(PathBuffer& to, std::string_view text) { to[text.copy(to.data(), to.size() - 1)] = '\0'; }

}  // namespace

void CheckpointFile::use(std::string_view path) {
  if (path.empty() || path.ends_with('/') || path.find('\0') != path.npos)
    throw Error("the checkpoint's name is empty: name a file to write");
  if (path.size() + kLongestEnd >= path_.size()) {
    throw Error(fmt::format("the checkpoint's name has {} bytes: use at most {}", path.size(), path_.size() - kLongestEnd - 1));
  }
  copy_to(path_, path);
  if (!follow_links(path_) || std::strlen(path_.data()) + kLongestEnd >= path_.size())
    throw Error(fmt::format("{} does not lead to a file: use another name", path));
  const std::string_view target = path_.data();
  copy_to(directory_, target.substr(0, directory_length(target)));
}

int CheckpointFile::begin() {
  struct stat old;
  const bool there = stat(path_.data(), &old) == 0;
  if (!there && errno != ENOENT) return -1;
  if (there && !S_ISREG(old.st_mode)) {
    errno = S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
    return -1;
  }
  for (;;) {
    *fmt::format_to(temporary_.data(), "{}{}{}-{}", directory_.data(), kTemporary, getpid(), temporaries++) = '\0';
    const int file = uninterrupted([&] { return open(temporary_.data(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
    if (file >= 0 || errno != EEXIST) return file;
  }
}

bool CheckpointFile::finish(int descriptor, const Entry&) {
  if (uninterrupted([&] { return fsync(descriptor); }) != 0 ||
      uninterrupted([&] { return rename(temporary_.data(), path_.data()); }) != 0) {
    abandon(descriptor);
    return false;
  }
  close(descriptor);
  const int directory = open(directory_[0] ? directory_.data() : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return true;  // not readable for us
  const bool safe = sync_directory(directory);
  close_quietly(directory);
  return safe;
}

void CheckpointFile::abandon(int descriptor) {
  close_quietly(descriptor);
  const int why = errno;
  unlink(temporary_.data());
  errno = why;
}

}  // namespace neurogen

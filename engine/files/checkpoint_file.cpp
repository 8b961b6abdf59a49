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

constexpr std::size_t kLongestEnd = 32;  // of a temporary name

std::atomic<unsigned> temporaries{0};

void copy_to(std::array<char, PATH_MAX>& to, std::string_view text) { to[text.copy(to.data(), to.size() - 1)] = '\0'; }

}  // namespace

void CheckpointFile::use(std::string_view path) {
  if (path.empty() || path.ends_with('/') || path.find('\0') != path.npos)
    throw Error("a checkpoint has no name: name a file to write");
  if (path.size() + kLongestEnd >= path_.size()) {
    throw Error(fmt::format("a checkpoint has a name of {} bytes: use at most {}", path.size(), path_.size() - kLongestEnd - 1));
  }
  copy_to(path_, path);
  // Through a link to the file itself: rename would replace the link.
  if (realpath(path_.data(), temporary_.data()) && std::strlen(temporary_.data()) + kLongestEnd < path_.size()) path_ = temporary_;
  path = path_.data();
  const std::size_t slash = path.rfind('/');
  copy_to(directory_, slash == path.npos ? "." : path.substr(0, slash + 1));
}

int CheckpointFile::begin() {
  struct stat old;
  if (stat(path_.data(), &old) == 0 && !S_ISREG(old.st_mode)) {
    errno = S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
    return -1;
  }
  for (;;) {
    *fmt::format_to(temporary_.data(), "{}.{}-{}.part", path_.data(), getpid(), temporaries++) = '\0';
    const int file = open(temporary_.data(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file >= 0 || errno != EEXIST) return file;
  }
}

bool CheckpointFile::finish(int descriptor, const Entry&) {
  if (fsync(descriptor) != 0 || rename(temporary_.data(), path_.data()) != 0) {
    abandon(descriptor);
    return false;
  }
  close(descriptor);
  const int directory = open(directory_.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return true;  // not ours to read
  const bool safe = fsync(directory) == 0 || errno == EINVAL;
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

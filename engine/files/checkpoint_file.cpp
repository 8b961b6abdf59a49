#include "engine/files/checkpoint_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "arena/error.h"

namespace neurogen {

void CheckpointFile::use(std::string_view path) {
  if (path.empty() || path.ends_with('/') || path.find('\0') != path.npos)
    throw Error("the checkpoint's name is empty: name a file to write");
  if (path.size() > Draft::kLongestPath)
    throw Error(fmt::format("the checkpoint's name has {} bytes: use at most {}", path.size(), Draft::kLongestPath));
  path_[path.copy(path_.data(), path.size())] = '\0';
  if (!follow_links(path_) || std::strlen(path_.data()) > Draft::kLongestPath)
    throw Error(fmt::format("{} does not lead to a file: use another name", path));
}

int CheckpointFile::begin() {
  struct stat old;
  const bool there = stat(path_.data(), &old) == 0;
  if (!there && errno != ENOENT) return -1;
  if (there && !S_ISREG(old.st_mode)) {
    errno = S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
    return -1;
  }
  return draft_.open(path_.data()) ? draft_.descriptor() : -1;
}

bool CheckpointFile::finish(int, const Entry&) { return draft_.publish(); }

void CheckpointFile::abandon(int) { draft_.discard(); }

}  // namespace neurogen

#include "engine/files/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "arena/error.h"

namespace neurogen {
namespace {

std::atomic<unsigned> drafts{0};

using ProcessLink = std::array<char, 32>;
// The name under which the system shows an open file.
ProcessLink link_to(int descriptor) {
  ProcessLink link{};
  fmt::format_to_n(link.data(), link.size() - 1, "/proc/self/fd/{}", descriptor);
  return link;
}

}  // namespace

bool Draft::open(std::string_view path) {
  if (path.size() > kLongestPath) {
    errno = ENAMETOOLONG;
    return false;
  }
  path_ = {}, directory_ = {'.'};
  path.copy(path_.data(), path.size());
  path.copy(directory_.data(), directory_length(path));
  descriptor_ = uninterrupted([&] { return ::open(directory_.data(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666); });
  if (descriptor_ >= 0 && access(link_to(descriptor_).data(), F_OK) == 0) return true;
  discard();  // it could get no name without /proc
  return take_temporary_name();
}

bool Draft::take_temporary_name() {
  do {  // the final name is not part of this one, since it may have the maximal length
    *fmt::format_to(temporary_.data(), "{}/.neurogen-{}-{}", directory_.data(), getpid(), drafts++) = '\0';
    if (descriptor_ >= 0) {
      named_ = link(temporary_.data());
    } else {
      descriptor_ = uninterrupted([&] { return ::open(temporary_.data(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
      named_ = descriptor_ >= 0;
    }
  } while (!named_ && errno == EEXIST);
  return named_;
}

bool Draft::link(const char* name) const {
  return linkat(AT_FDCWD, link_to(descriptor_).data(), AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
}

bool Draft::put_in_place(Existing existing) {
  if (uninterrupted([&] { return fsync(descriptor_); }) != 0) return false;
  if (!named_) {
    if (link(path_.data())) return true;
    if (errno != EEXIST || existing == Existing::kept || !take_temporary_name()) return false;  // only a rename replaces a file
  } else if (existing == Existing::kept) {
    if (::link(temporary_.data(), path_.data()) == 0) return true;  // discard() removes the other name
    if (errno == EEXIST || access(path_.data(), F_OK) == 0) return errno = EEXIST, false;
  }
  named_ = uninterrupted([&] { return rename(temporary_.data(), path_.data()); }) != 0;
  return !named_;
}

bool Draft::publish(Existing existing) {
  const bool in_place = put_in_place(existing);
  discard();
  if (!in_place) return false;
  const int directory = ::open(directory_.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return true;  // not readable for us
  const bool safe = sync_directory(directory);
  close_quietly(directory);
  return safe;
}

void Draft::discard() {
  if (descriptor_ < 0) return;
  const int why = errno;
  close(std::exchange(descriptor_, -1));
  if (std::exchange(named_, false)) unlink(temporary_.data());
  errno = why;
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  if (path_.empty()) throw Error("the name of a file to write is empty: name one");
  struct stat there {};
  if (stat(path_.c_str(), &there) == 0) {
    if (S_ISDIR(there.st_mode)) throw Error(fmt::format("{} is a directory: name a file in it", path_));
    if (!S_ISREG(there.st_mode)) throw Error(fmt::format("{} is not a regular file: write to another path", path_));
  } else if (errno != ENOENT) {
    fail("created");
  }
  PathBuffer target{};
  path_.copy(target.data(), target.size() - 1);
  if (!follow_links(target) || !draft_.open(target.data()))
    fail("created", ": name one in a folder that exists and can be written");
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  if (!write_all(draft_.descriptor(), data, bytes)) fail("written");
}

void AtomicFile::overwrite(std::size_t begin, const void* data, std::size_t bytes) {
  const auto put = uninterrupted([&] { return pwrite(draft_.descriptor(), data, bytes, static_cast<off_t>(begin)); });
  if (put != static_cast<ssize_t>(bytes)) fail("written");
}

std::size_t AtomicFile::read(std::size_t begin, void* to, std::size_t bytes) const {
  const ssize_t got = read_at(draft_.descriptor(), begin, to, bytes);
  if (got < 0) fail("read back");
  return static_cast<std::size_t>(got);
}

void AtomicFile::cut(std::size_t begin) {
  const int file = draft_.descriptor();
  if (uninterrupted([&] { return ftruncate(file, static_cast<off_t>(begin)); }) != 0 || lseek(file, 0, SEEK_END) < 0)
    fail("written");
}

bool AtomicFile::commit(Existing existing) {
  if (draft_.publish(existing)) return true;
  if (existing == Existing::kept && errno == EEXIST) return false;
  fail("written");
}

void AtomicFile::fail(const char* verb, const char* advice) const {
  throw Error(fmt::format("{} cannot be {}: {}{}", path_, verb, std::strerror(errno), advice), Error::kRunTime);
}

}  // namespace neurogen

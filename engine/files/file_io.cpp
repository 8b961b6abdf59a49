#include "engine/files/file_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "arena/error.h"

namespace neurogen {
namespace {

constexpr int kMostLinks = 40;  // length of a chain of symbolic links, as in Linux

// Closes a descriptor at the end of its scope.
struct Descriptor {
  int value;
  explicit Descriptor(int value_) : value(value_) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
};

thread_local bool files_are_copied = false;

}  // namespace

ssize_t read_at(int descriptor, std::size_t begin, void* to, std::size_t bytes) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = uninterrupted(
        [&] { return pread(descriptor, static_cast<char*>(to) + done, bytes - done, static_cast<off_t>(begin + done)); });
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

bool write_all(int descriptor, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = uninterrupted([&] { return ::write(descriptor, from, bytes); });
    if (written < 0) return false;
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

bool sync_directory(int descriptor) {
  return uninterrupted([&] { return fsync(descriptor); }) == 0 || errno == EINVAL;
}

bool follow_links(PathBuffer& path) {
  PathBuffer target;
  for (int links = 0; links < kMostLinks; ++links) {
    const ssize_t size = readlink(path.data(), target.data(), target.size());
    if (size < 0) return true;  // not a link
    const std::size_t begin = target[0] == '/' ? 0 : directory_length(path.data()), bytes = static_cast<std::size_t>(size);
    if (begin + bytes >= path.size()) {
      errno = ENAMETOOLONG;
      return false;
    }
    std::memcpy(path.data() + begin, target.data(), bytes);
    path[begin + bytes] = '\0';
  }
  errno = ELOOP;
  return false;
}

std::size_t directory_length(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == path.npos ? 0 : slash + 1;
}

void close_quietly(int descriptor) {
  const int why = errno;
  close(descriptor);
  errno = why;
}

CopiedFiles::CopiedFiles() : before_(std::exchange(files_are_copied, true)) {}
CopiedFiles::~CopiedFiles() { files_are_copied = before_; }

// Delegates, so that the destructor frees resources if the body throws.
MappedFile::MappedFile(const std::string& path) : MappedFile() {
  // Without O_NONBLOCK, opening a pipe without a writer would block.
  Descriptor file{uninterrupted([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); })};
  struct stat status {};
  if (file.value < 0 || fstat(file.value, &status) != 0) {
    if (errno == ENOENT) throw Error(fmt::format("{} does not exist: check the path", path));
    throw Error(fmt::format("{} cannot be read: {}", path, std::strerror(errno)));
  }
  if (S_ISDIR(status.st_mode)) throw Error(fmt::format("{} is a directory: name a file in it", path));
  if (!S_ISREG(status.st_mode)) throw Error(fmt::format("{} is not a regular file: save its contents in one first", path));
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // mmap refuses zero bytes
  void* data = files_are_copied ? mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                : mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (data == MAP_FAILED) throw Error(fmt::format("{} cannot be mapped: {}", path, std::strerror(errno)), Error::kRunTime);
  data_ = static_cast<const std::byte*>(data);
  descriptor_ = std::exchange(file.value, -1);
  if (!files_are_copied) return;
  const ssize_t got = read_at(descriptor_, 0, data, size_);
  if (got < 0) throw Error(fmt::format("{} cannot be read: {}", path, std::strerror(errno)), Error::kRunTime);
  if (static_cast<std::size_t>(got) < size_)
    throw Error(path + " was cut short while it was read: try again once it is whole", Error::kRunTime);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  MappedFile taken(std::move(other));  // frees what this one held
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  std::swap(descriptor_, taken.descriptor_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) close(descriptor_);
}

}  // namespace neurogen

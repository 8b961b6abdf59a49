// Files, read by mapping, and calls of the system. atomic_file.h writes them.
#pragma once
#include <sys/types.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace neurogen {

// While alive, MappedFile on this thread reads files into memory instead of mapping them: in a library, a mapped file that is
// truncated would kill the host process with SIGBUS.
class CopiedFiles {
 public:
  CopiedFiles();
  ~CopiedFiles();
  CopiedFiles(const CopiedFiles&) = delete;
  CopiedFiles& operator=(const CopiedFiles&) = delete;

 private:
  bool before_;
};

// A regular file, mapped read-only. Move-only; spans into it live as long as it does.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error that names the file: missing, a directory, not a regular file, unreadable. An empty file maps to nothing.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  // The open file's descriptor, to map parts of it elsewhere.
  int descriptor() const { return descriptor_; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int descriptor_ = -1;
};

// Repeats a system call while signals interrupt it.
template <typename Call>
auto uninterrupted(Call&& call) {
  for (;;) {
    if (const auto result = call(); result >= 0 || errno != EINTR) return result;
  }
}

// Reads from `begin` on, up to the end of file and at most `bytes`. Returns the number read, or -1 with errno on failure.
ssize_t read_at(int descriptor, std::size_t begin, void* to, std::size_t bytes);

// Writes all bytes; false with errno on failure. Allocates nothing.
bool write_all(int descriptor, const void* data, std::size_t bytes);

// Syncs a directory's entries to disk. False with errno if the disk fails; true on a file system that does not support it.
// Allocates nothing.
bool sync_directory(int descriptor);

using PathBuffer = std::array<char, PATH_MAX>;
// Replaces `path` by the target of its symbolic links, which need not exist: renaming a file to `path` itself would replace the
// link. False with errno if it cannot be resolved. Allocates nothing.
bool follow_links(PathBuffer& path);
// Length of a path's directory part, including the last '/'.
std::size_t directory_length(std::string_view path);

// Closes a descriptor and preserves errno.
void close_quietly(int descriptor);

}  // namespace neurogen

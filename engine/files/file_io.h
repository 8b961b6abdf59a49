// Files as the engine uses them: read by mapping, written whole or not at all.
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

// While alive, MappedFile on this thread reads files into memory instead of mapping them: in a library, a mapped file that is cut
// short would end its host with SIGBUS.
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
  // Of the open file, for mapping parts of it elsewhere.
  int descriptor() const { return descriptor_; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int descriptor_ = -1;
};

// Repeats a call of the system for as long as a signal interrupts it.
template <typename Call>
auto uninterrupted(Call&& call) {
  for (;;) {
    if (const auto result = call(); result >= 0 || errno != EINTR) return result;
  }
}

// Reads what there is from `begin` on, at most `bytes`; -1 with errno where the system refuses.
ssize_t read_at(int descriptor, std::size_t begin, void* to, std::size_t bytes);

// Writes all of it; false with errno where the system refuses. Allocates nothing.
bool write_all(int descriptor, const void* data, std::size_t bytes);

// Makes the names in a directory safe from a crash of the machine. False with errno where the disk fails; true
// on a file system that has no such call. Allocates nothing.
bool sync_directory(int descriptor);

using PathBuffer = std::array<char, PATH_MAX>;
// Replaces `path` by what it leads to through symbolic links, there or not: renaming a file to it would replace the link. False
// with errno where it leads nowhere. Allocates nothing.
bool follow_links(PathBuffer& path);
// The length of the part of a path that names the directory, with its last '/'.
std::size_t directory_length(std::string_view path);
// The names of files that are not whole yet begin with it. It does not hold the name to come, which may be as long as names can be.
inline constexpr std::string_view kTemporary = ".neurogen-";

// Closes without a change of errno, which says why.
void close_quietly(int descriptor);

// A file that appears under its name complete or not at all: written to a temporary in the same directory, then fsync,
// rename, fsync of the directory. Without commit() the destructor removes the temporary and an existing file stays as it
// was. Errors are run-time Errors that name the file and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Reads what was written from `begin` on into `to`, as much of it as there is, and returns how many bytes.
  std::size_t read(std::size_t begin, void* to, std::size_t bytes) const;
  void cut(std::size_t begin);  // takes back what was written from `begin` on
  void commit();

 private:
  [[noreturn]] void fail(const char* verb) const;

  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace neurogen

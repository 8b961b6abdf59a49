// Files as the engine uses them: read by mapping, written whole or not at all.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace neurogen {

// While one lives, its thread copies files where it would map them. Whoever cuts a mapped file short ends the process that reads
// it, which is not ours where the engine is a library; of a copy it gives an Error.
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

// As many of the bytes from `begin` on as there are, however often the system is interrupted; -1 with errno where it refuses.
ssize_t read_at(int descriptor, std::size_t begin, void* to, std::size_t bytes);

// All of it, however often the system is interrupted or takes less; false with errno where it refuses. Allocates nothing.
bool write_all(int descriptor, const void* data, std::size_t bytes);

// Without a change of errno, which says why it is closed.
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
  // What was written from `begin` on: into `to`, as much of it as there is (returns how many bytes); and taken back.
  std::size_t read(std::size_t begin, void* to, std::size_t bytes) const;
  void cut(std::size_t begin);
  void commit();

 private:
  [[noreturn]] void fail(const char* verb) const;

  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace neurogen

// One contiguous block of memory, taken once at start-up and given back at exit. Move-only; owns its memory.
#pragma once
#include "arena/bytes.h"

namespace neurogen {

// Bytes of an open file.
struct FileRange {
  int descriptor = -1;
  Bytes offset = 0;  // a multiple of the page size
  Bytes bytes = 0;
  const char* path = "";  // of the file, for sentences; it outlives this
};

class Block {
 public:
  Block() = default;
  // Ordinary memory from mmap, zeroed, page-aligned, every page touched before it returns, so that what was planned is
  // really there. Zero bytes is an empty block. Throws Error (status 1) that names the size where the system refuses.
  // It begins with `front`, at most as long as itself: whole pages mapped copy-on-write, so that they cost nothing until they
  // are read and memory once they are written, and what is left of the last copied. The file may be closed afterwards.
  static Block on_host(Bytes bytes, const FileRange& front = {});
  // Memory of the current GPU, and memory of the host that a GPU copies from and to while both work; zeroed, or as it is found
  // where it need not be `cleared`. In builds with CUDA alone. Throws Error (status 1) that names the size where the driver
  // refuses.
  static Block on_gpu(Bytes bytes, bool cleared = true);
  static Block pinned(Bytes bytes);
  // How many blocks of these two kinds the process has asked for so far: the only device memory that it takes by itself.
  static std::int64_t gpu_requests() { return gpu_requests_; }

  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  ~Block();

  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }
  Bytes mapped() const { return mapped_; }  // of the front, from a file

 private:
  using Release = void (*)(std::byte* data, Bytes size);
  Block(std::byte* data, Bytes size, Release release) : data_(data), size_(size), release_(release) {}

  std::byte* data_ = nullptr;
  Bytes size_ = 0, mapped_ = 0;
  Release release_ = nullptr;
  static inline std::int64_t gpu_requests_ = 0;
};

}  // namespace neurogen

// One contiguous block of memory, allocated once at start-up and released at exit. Move-only; owns its memory.
#pragma once
#include "arena/bytes.h"

namespace neurogen {

// A byte range of an open file.
struct FileRange {
  int descriptor = -1;
  Bytes offset = 0;  // a multiple of the page size
  Bytes bytes = 0;
  const char* path = "";  // for error messages; must outlive this
};

class Block {
 public:
  Block() = default;
  // Ordinary memory from mmap, zeroed, page-aligned, every page touched before returning, so that the planned memory really exists.
  // Zero bytes give an empty block. Throws Error (status 1) naming the size if the system refuses. The block begins with `front`,
  // which is no longer than the block: whole pages are mapped copy-on-write, costing nothing until read and memory only once
  // written; the rest of the last page is copied. The file may be closed afterwards.
  static Block on_host(Bytes bytes, const FileRange& front = {});
  // on_gpu: memory of the current GPU, zeroed if `cleared`. pinned: zeroed host memory that a GPU copies from and to while both
  // work. Only in builds with CUDA. Both throw Error (status 1) naming the size if the driver refuses.
  static Block on_gpu(Bytes bytes, bool cleared = true);
  static Block pinned(Bytes bytes);
  // Number of blocks of these two kinds that the process has requested so far; it takes no other device memory itself.
  static std::int64_t gpu_requests() { return gpu_requests_; }

  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  ~Block();

  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }
  Bytes mapped() const { return mapped_; }  // bytes of the front mapped from a file

 private:
  using Release = void (*)(std::byte* data, Bytes size);
  Block(std::byte* data, Bytes size, Release release) : data_(data), size_(size), release_(release) {}

  std::byte* data_ = nullptr;
  Bytes size_ = 0, mapped_ = 0;
  Release release_ = nullptr;
  static inline std::int64_t gpu_requests_ = 0;
};

}  // namespace neurogen

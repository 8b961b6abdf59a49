// One contiguous block of memory, taken once at start-up and given back at exit. Move-only; owns its memory.
#pragma once
#include "arena/bytes.h"

namespace neurogen {

class Block {
 public:
  Block() = default;
  // Ordinary memory from mmap, zeroed, page-aligned, every page touched before it returns, so that what was planned is
  // really there. Zero bytes is an empty block. Throws Error (status 1) that names the size where the system refuses.
  static Block on_host(Bytes bytes);

  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  ~Block();

  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  Bytes size_ = 0;
};

}  // namespace neurogen

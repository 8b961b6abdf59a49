#include "arena/block.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "arena/error.h"

namespace neurogen {

Block Block::on_host(Bytes bytes) {
  Block block;
  if (bytes == 0) return block;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(fmt::format("the system does not give {} bytes of memory ({}): free some or plan for a smaller budget",
                            with_commas(bytes), std::strerror(errno)), Error::kRunTime);
  }
  block.data_ = static_cast<std::byte*>(memory);
  block.size_ = bytes;
  // A wish, not a need: matrix products spend less time on address translation. Later would be too late.
  madvise(memory, bytes, MADV_HUGEPAGE);
  static constexpr Bytes kPage = 4096;
  for (Bytes at = 0; at < bytes; at += kPage) *static_cast<volatile std::byte*>(block.data_ + at) = std::byte{0};
  return block;
}

Block::Block(Block&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Block::~Block() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace neurogen

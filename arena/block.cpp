#include "arena/block.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "arena/error.h"

namespace neurogen {

Block Block::on_host(Bytes bytes) {
  if (bytes == 0) return {};
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(fmt::format("the system does not give {} bytes of memory ({}): free some or plan for a smaller budget",
                            with_commas(bytes), std::strerror(errno)), Error::kRunTime);
  }
  Block block(static_cast<std::byte*>(memory), bytes, [](std::byte* data, Bytes size) { munmap(data, size); });
  // A wish, not a need: matrix products spend less time on address translation. Before the pages exist, or it comes too late.
  madvise(memory, bytes, MADV_HUGEPAGE);
  static constexpr Bytes kPage = 4096;
  for (Bytes at = 0; at < bytes; at += kPage) *static_cast<volatile std::byte*>(block.data_ + at) = std::byte{0};
  return block;
}

Block::Block(Block&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), release_(other.release_) {}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(release_, other.release_);
  return *this;
}

Block::~Block() {
  if (data_ != nullptr) release_(data_, size_);
}

}  // namespace neurogen

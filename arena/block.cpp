#include "arena/block.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "arena/error.h"

namespace neurogen {
namespace {

constexpr Bytes kPage = 4096;

// Maps or reads the file into the front of a block; returns how many bytes are mapped.
Bytes begin_with(std::byte* memory, const FileRange& front) {
  const auto refuse = [](const char* why) {
    throw Error(fmt::format("a file cannot be mapped as memory ({}): use a complete file on a local disk", why), Error::kRunTime);
  };
  const Bytes whole = front.bytes / kPage * kPage;
  if (whole > 0 && mmap(memory, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, front.descriptor,
                        static_cast<off_t>(front.offset)) == MAP_FAILED) {
    refuse(std::strerror(errno));
  }
  for (Bytes at = whole; at < front.bytes;) {
    const ssize_t got = pread(front.descriptor, memory + at, front.bytes - at, static_cast<off_t>(front.offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) refuse(got == 0 ? "it is too short" : std::strerror(errno));
    at += static_cast<Bytes>(got);
  }
  return whole;
}

}  // namespace

Block Block::on_host(Bytes bytes, const FileRange& front) {
  if (bytes == 0) return {};
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(fmt::format("the system cannot allocate {} bytes of memory ({}): free some or plan for a smaller budget",
                            with_commas(bytes), std::strerror(errno)),
                Error::kRunTime);
  }
  Block block(static_cast<std::byte*>(memory), bytes, [](std::byte* data, Bytes size) { munmap(data, size); });
  // Huge pages are optional: matrix products spend less time on address translation. They must be requested before the pages exist.
  madvise(memory, bytes, MADV_HUGEPAGE);
  block.mapped_ = begin_with(block.data_, front);
  for (Bytes at = (front.bytes + kPage - 1) / kPage * kPage; at < bytes; at += kPage)
    *static_cast<volatile std::byte*>(block.data_ + at) = std::byte{0};
  return block;
}

Block::Block(Block&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)),
      release_(other.release_) {}

Block& Block::operator=(Block&& other) noexcept {
  Block taken(std::move(other));  // its destructor releases what this block held
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  std::swap(mapped_, taken.mapped_);
  std::swap(release_, taken.release_);
  return *this;
}

Block::~Block() {
  if (data_ != nullptr) release_(data_, size_);
}

}  // namespace neurogen

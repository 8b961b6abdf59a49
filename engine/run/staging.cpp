#include "engine/run/staging.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <thread>

#include "arena/error.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

constexpr std::int64_t kPart = std::int64_t{1} << 18;  // bytes that a thread copies at once

// A copy in pieces of one slot's size; piece i uses slot i modulo the number of slots. The GPU copies one piece after another; the
// session's threads copy parts of all open pieces, without waiting for each other. To the GPU, a piece is open once the GPU is done
// with the previous one in its slot, and submitted to the GPU once all of its parts are copied; from the GPU, the other way round.
class Ring {
 public:
  Ring(const Session& session, std::byte* device, Bytes bytes, bool to_gpu)
      : program_(session.program),
        staging_(program_.view(session.model.ports.staging)),
        device_(device),
        bytes_(static_cast<std::int64_t>(bytes)),
        pieces_((bytes_ + slot() - 1) / slot()),
        to_gpu_(to_gpu) {}

  // host(offset, address in the slot, bytes): the host's work on a part, called by several threads at once.
  template <typename Host>
  void run(ThreadPool& threads, Host&& host) {
    // One item per thread, caller included: no item ends before everything is done, so no thread gets two.
    threads.parallel(threads.threads(), [&](std::int64_t, int thread) {
      const auto goes_on = [&] {
        return thread == 0 ? tend() : !ended_.load(std::memory_order_acquire);
      };  // thread 0 is the caller
      while (goes_on()) {
        if (!work(host)) std::this_thread::yield();
      }
    });
    if (!failure_) return;
    try {
      program_.wait();  // for pending copies: the caller may free the memory
    } catch (...) {     // report the first failure
    }
    std::rethrow_exception(failure_);
  }

 private:
  std::int64_t slot() const { return staging_.row_elements(); }
  std::int64_t parts() const { return (slot() + kPart - 1) / kPart; }  // per piece; the last parts of the last piece may be empty
  std::byte* staged(std::int64_t piece) const { return staging_.rows(piece % kStagingSlots, 1).as<std::byte>(); }

  // Opens pieces and submits them to the GPU, as far as possible; false when all are complete.
  bool tend() try {
    while (emptied_ < opened_ && left_[emptied_ % kStagingSlots].load(std::memory_order_acquire) == 0) ++emptied_;
    while (reached_ < asked_ && program_.has_reached(static_cast<std::size_t>(reached_ % kStagingSlots))) ++reached_;
    for (const std::int64_t end = to_gpu_ ? emptied_ : std::min(pieces_, emptied_ + kStagingSlots); asked_ < end; ++asked_) ask();
    for (const std::int64_t end = to_gpu_ ? std::min(pieces_, reached_ + kStagingSlots) : reached_; opened_ < end;) {
      left_[opened_ % kStagingSlots].store(parts(), std::memory_order_relaxed);
      opened_.fetch_add(1, std::memory_order_release);
    }
    if (emptied_ < pieces_ || reached_ < pieces_) return true;
    ended_.store(true, std::memory_order_release);
    return false;
  } catch (...) {  // an exception must not leave the thread
    failure_ = std::current_exception();
    ended_.store(true, std::memory_order_release);
    return false;
  }

  void ask() {
    std::byte* const there = device_ + asked_ * slot();
    const auto bytes = static_cast<Bytes>(std::min(slot(), bytes_ - asked_ * slot()));
    if (to_gpu_) program_.copy(staged(asked_), there, bytes);
    else program_.copy(there, staged(asked_), bytes);
    program_.mark(static_cast<std::size_t>(asked_ % kStagingSlots));
  }

  // Copies one part if one is open.
  template <typename Host>
  bool work(Host&& host) {
    std::int64_t part = next_.load(std::memory_order_relaxed);
    do {
      if (part >= opened_.load(std::memory_order_acquire) * parts()) return false;
    } while (!next_.compare_exchange_weak(part, part + 1, std::memory_order_relaxed));
    const std::int64_t piece = part / parts(), begin = part % parts() * kPart, at = piece * slot() + begin;
    const std::int64_t count = std::min({kPart, slot() - begin, bytes_ - at});
    if (count > 0) host(static_cast<Bytes>(at), staged(piece) + begin, static_cast<Bytes>(count));
    left_[piece % kStagingSlots].fetch_sub(1, std::memory_order_release);
    return true;
  }

  const Program& program_;
  const TensorView staging_;
  std::byte* const device_;
  const std::int64_t bytes_, pieces_;
  const bool to_gpu_;
  // Number of pieces submitted to the GPU, completed by it, completed by the host. Used only by the caller's thread.
  std::int64_t asked_ = 0, reached_ = 0, emptied_ = 0;
  std::exception_ptr failure_;
  std::atomic<bool> ended_{false};
  std::atomic<std::int64_t> opened_{0}, next_{0};    // pieces open to the host's threads; next part to take
  std::atomic<std::int64_t> left_[kStagingSlots]{};  // unfinished parts of the piece in each slot
};

}  // namespace

void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) {
  Ring(session, to, bytes, true).run(session.threads(), [&](Bytes at, std::byte* staged, Bytes count) {
    std::memcpy(staged, from + at, count);
  });
}

void copy_to_gpu(const Session& session, const FileRange& from, std::byte* to) {
  constexpr int kTooShort = -1;
  std::atomic<int> failure{0};  // errno of a failed read; an exception must not leave a thread
  Ring(session, to, from.bytes, true).run(session.threads(), [&](Bytes at, std::byte* staged, Bytes count) {
    const ssize_t got = read_at(from.descriptor, from.offset + at, staged, count);
    if (got != static_cast<ssize_t>(count)) failure = got < 0 ? errno : kTooShort;
  });
  if (failure != 0) {
    throw Error(fmt::format("{} cannot be read ({}): use a checkpoint that is whole and on a disk of this machine", from.path,
                            failure == kTooShort ? "it has been truncated" : std::strerror(failure)),
                Error::kRunTime);
  }
}

void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) {
  // const_cast is safe: copies from the GPU do not write to its arena.
  Ring(session, const_cast<std::byte*>(from), bytes, false).run(session.threads(), [&](Bytes at, std::byte* staged, Bytes count) {
    std::memcpy(to + at, staged, count);
  });
}

}  // namespace neurogen

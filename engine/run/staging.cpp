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

constexpr std::int64_t kPart = std::int64_t{1} << 18;  // bytes that one copier takes

// A copy in pieces of a slot; piece i passes through slot i modulo their number. The GPU copies one after the other, the session's
// threads the parts of all that are open, none waiting for another. To the GPU, a piece is open once the GPU is done with the one
// before it in its slot, and asked of the GPU once all of its parts are there; from the GPU, the other way round.
class Ring {
 public:
  Ring(const Session& session, std::byte* device, Bytes bytes, bool to_gpu)
      : program_(session.program),
        staging_(program_.view(session.brain.staging)),
        device_(device),
        bytes_(static_cast<std::int64_t>(bytes)),
        pieces_((bytes_ + slot() - 1) / slot()),
        to_gpu_(to_gpu) {}

  // host(where it begins, in its slot, bytes): the host's work on a part, by several threads at once.
  template <typename Host>
  void run(ThreadPool& threads, Host&& host) {
    // As many items as threads, none of which ends before all is done: each thread has one, the caller too.
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
      program_.wait();  // for what is still on its way: the caller may give the memory back
    } catch (...) {     // the first failure is the one to tell
    }
    std::rethrow_exception(failure_);
  }

 private:
  std::int64_t slot() const { return staging_.row_elements(); }
  std::int64_t parts() const { return (slot() + kPart - 1) / kPart; }  // of a piece; the last piece's last ones may be empty
  std::byte* staged(std::int64_t piece) const { return staging_.rows(piece % kStagingSlots, 1).as<std::byte>(); }

  // Opens pieces and asks the GPU for them, as far as they are; false when all are through.
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
  } catch (...) {  // no exception may leave a thread
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

  // One part, where one is open.
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
  // Pieces so far: asked of the GPU, done by it, done by the host. The caller's alone.
  std::int64_t asked_ = 0, reached_ = 0, emptied_ = 0;
  std::exception_ptr failure_;
  std::atomic<bool> ended_{false};
  std::atomic<std::int64_t> opened_{0}, next_{0};    // pieces for the host's threads; the part that is taken next
  std::atomic<std::int64_t> left_[kStagingSlots]{};  // of the piece in each slot, parts that are not done
};

}  // namespace

void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) {
  Ring(session, to, bytes, true).run(session.threads(), [&](Bytes at, std::byte* staged, Bytes count) {
    std::memcpy(staged, from + at, count);
  });
}

void copy_to_gpu(const Session& session, const FileRange& from, std::byte* to) {
  constexpr int kTooShort = -1;
  std::atomic<int> failure{0};  // errno of one; no exception may leave a thread
  Ring(session, to, from.bytes, true).run(session.threads(), [&](Bytes at, std::byte* staged, Bytes count) {
    const ssize_t got = read_at(from.descriptor, from.offset + at, staged, count);
    if (got != static_cast<ssize_t>(count)) failure = got < 0 ? errno : kTooShort;
  });
  if (failure != 0) {
    throw Error(fmt::format("{} cannot be read ({}): use a checkpoint that is whole and on a disk of this machine", from.path,
                            failure == kTooShort ? "it has become too short" : std::strerror(failure)),
                Error::kRunTime);
  }
}

void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) {
  // From the GPU: its arena is not written to.
  Ring(session, const_cast<std::byte*>(from), bytes, false).run(session.threads(), [&](Bytes at, std::byte* staged, Bytes count) {
    std::memcpy(to + at, staged, count);
  });
}

}  // namespace neurogen

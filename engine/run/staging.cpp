#include "engine/run/staging.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "arena/error.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

constexpr Bytes kPart = Bytes{1} << 16;  // that one copier takes

// Piece i passes through slot i modulo their number, and that slot's mark is reached with the GPU's part of it. The host's part:
// host(where it begins, in its slot, bytes), by several threads at once.
template <typename Host>
void copy(const Session& session, std::byte* device, Bytes bytes, bool to_gpu, Host&& host) {
  const Program& program = session.program;
  const TensorView staging = program.view(session.brain.staging);
  const auto slots = static_cast<Bytes>(staging[0]), slot = static_cast<Bytes>(staging.row_elements());
  const Bytes pieces = (bytes + slot - 1) / slot;
  struct Piece {
    Bytes at, bytes;
    std::byte* staged;
  };
  const auto piece = [&](Bytes i) {
    return Piece{i * slot, std::min(slot, bytes - i * slot), staging.rows(static_cast<std::int64_t>(i % slots), 1).as<std::byte>()};
  };
  const auto ask_gpu = [&](Bytes i) {
    const Piece p = piece(i);
    if (to_gpu) program.copy(p.staged, device + p.at, p.bytes);
    else program.copy(device + p.at, p.staged, p.bytes);
    program.mark(i % slots);
  };
  const auto with_host = [&](Bytes i) {
    const Piece p = piece(i);
    session.threads().parallel(static_cast<std::int64_t>((p.bytes + kPart - 1) / kPart), [&](std::int64_t part, int) {
      const Bytes begin = static_cast<Bytes>(part) * kPart;
      host(p.at + begin, p.staged + begin, std::min(kPart, p.bytes - begin));
    });
  };
  try {
    // A piece takes its slot when the GPU is done with the one before it there; the last ones are taken over by none.
    for (Bytes i = 0; i < pieces + slots; ++i) {
      if (i >= slots) {
        program.wait_for_mark(i % slots);
        if (!to_gpu) with_host(i - slots);
      }
      if (i < pieces) {
        if (to_gpu) with_host(i);
        ask_gpu(i);
      }
    }
  } catch (...) {
    try {
      program.wait();  // for what is still on its way: the caller may give the memory back
    } catch (...) {    // the first failure is the one to tell
    }
    throw;
  }
}

}  // namespace

void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) {
  copy(session, to, bytes, true, [&](Bytes at, std::byte* staged, Bytes count) { std::memcpy(staged, from + at, count); });
}

void copy_to_gpu(const Session& session, const FileRange& from, std::byte* to) {
  constexpr int kTooShort = -1;
  std::atomic<int> failure{0};  // errno of one; no exception may leave a thread
  copy(session, to, from.bytes, true, [&](Bytes at, std::byte* staged, Bytes count) {
    const ssize_t got = read_at(from.descriptor, from.offset + at, staged, count);
    if (got != static_cast<ssize_t>(count)) failure = got < 0 ? errno : kTooShort;
  });
  if (failure != 0) {
    throw Error(fmt::format("a checkpoint cannot be read ({}): use one that is whole and on a disk of this machine",
                            failure == kTooShort ? "it has become too short" : std::strerror(failure)), Error::kRunTime);
  }
}

void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) {
  // From the GPU: its arena is not written to.
  copy(session, const_cast<std::byte*>(from), bytes, false,
       [&](Bytes at, std::byte* staged, Bytes count) { std::memcpy(to + at, staged, count); });
}

}  // namespace neurogen

#include "engine/run/staging.h"

#include <algorithm>
#include <cstring>

namespace neurogen {
namespace {

constexpr Bytes kPart = Bytes{1} << 16;  // that one copier takes

// Piece i passes through slot i modulo their number, and that slot's mark is reached with the GPU's part of it.
void copy(const Session& session, const std::byte* from, std::byte* to, Bytes bytes, bool to_gpu) {
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
    if (to_gpu) program.copy(p.staged, to + p.at, p.bytes);
    else program.copy(from + p.at, p.staged, p.bytes);
    program.mark(i % slots);
  };
  const auto with_host = [&](Bytes i) {
    const Piece p = piece(i);
    session.threads().parallel(static_cast<std::int64_t>((p.bytes + kPart - 1) / kPart), [&](std::int64_t part, int) {
      const Bytes begin = static_cast<Bytes>(part) * kPart, count = std::min(kPart, p.bytes - begin);
      if (to_gpu) std::memcpy(p.staged + begin, from + p.at + begin, count);
      else std::memcpy(to + p.at + begin, p.staged + begin, count);
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

void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) { copy(session, from, to, bytes, true); }
void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) { copy(session, from, to, bytes, false); }

}  // namespace neurogen

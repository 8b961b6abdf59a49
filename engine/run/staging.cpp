#include "engine/run/staging.h"

#include <algorithm>
#include <cstring>

namespace neurogen {
namespace {

constexpr Bytes kPart = Bytes{1} << 16;  // that one copier takes

void copy(const Session& session, const std::byte* from, std::byte* to, Bytes bytes, bool to_gpu) {
  const TensorView staging = session.program.view(session.brain.staging);
  const auto half = static_cast<Bytes>(staging.row_elements());
  const Bytes pieces = (bytes + half - 1) / half;
  struct Piece {
    Bytes at, bytes;
    std::byte* staged;
  };
  const auto piece = [&](Bytes i) {
    return Piece{i * half, std::min(half, bytes - i * half), staging.rows(static_cast<std::int64_t>(i % 2), 1).as<std::byte>()};
  };
  const auto with_gpu = [&](const Piece& p) {
    if (to_gpu) session.program.copy(p.staged, to + p.at, p.bytes);
    else session.program.copy(from + p.at, p.staged, p.bytes);
  };
  const auto with_host = [&](const Piece& p) {
    session.threads().parallel(static_cast<std::int64_t>((p.bytes + kPart - 1) / kPart), [&](std::int64_t part, int) {
      const Bytes begin = static_cast<Bytes>(part) * kPart, count = std::min(kPart, p.bytes - begin);
      if (to_gpu) std::memcpy(p.staged + begin, from + p.at + begin, count);
      else std::memcpy(to + p.at + begin, p.staged + begin, count);
    });
  };
  for (Bytes i = 0; i <= pieces; ++i) {
    const bool begins = i < pieces, ends = i > 0;  // a piece its first copy, the one before its second
    if (to_gpu ? ends : begins) with_gpu(piece(to_gpu ? i - 1 : i));
    if (to_gpu ? begins : ends) with_host(piece(to_gpu ? i : i - 1));
    session.program.wait();
  }
}

}  // namespace

void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) { copy(session, from, to, bytes, true); }
void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes) { copy(session, from, to, bytes, false); }

}  // namespace neurogen

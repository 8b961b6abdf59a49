#include "engine/run/saver.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <semaphore>
#include <thread>

#include "engine/files/file_io.h"

namespace neurogen {
namespace {

constexpr Bytes kPiece = Bytes{1} << 20;  // hashed, checked and written while it is in a core's cache
constexpr std::array<std::byte, kCheckpointAlignment> kZeros{};

// Whether no number of a type has an exponent of ones, which infinities and NaN have.
template <typename Word>
bool no_exponent_of_ones(std::span<const std::byte> data, Word ones) {
  bool found = false;
  for (std::size_t at = 0; at < data.size(); at += sizeof(Word)) {
    Word word;
    std::memcpy(&word, data.data() + at, sizeof word);
    found |= (word & ones) == ones;
  }
  return !found;
}

bool all_finite(DType type, std::span<const std::byte> data) {
  switch (type) {
    case DType::f32: return no_exponent_of_ones<std::uint32_t>(data, 0x7F80'0000);
    case DType::f64: return no_exponent_of_ones<std::uint64_t>(data, 0x7FF0'0000'0000'0000);
    case DType::bf16: return no_exponent_of_ones<std::uint16_t>(data, 0x7F80);
    case DType::f16: return no_exponent_of_ones<std::uint16_t>(data, 0x7C00);
    default: return true;
  }
}

}  // namespace

struct Saver::Work {
  struct Piece {
    std::size_t tensor;
    Bytes begin;
    std::span<const std::byte> data;
  };

  Work(const Session& session, const Manifest& m, CheckpointPlace& place_)
      : program(session.program), place(place_), manifest(m), encoded(encode_manifest(m)), checksums(m.tensors.size()),
        ids(persistent_tensors(session.arena.plan())) {
    if (session.brain.staging) {
      staging = program.view(session.brain.staging);
      helper = std::jthread([this] { help(); });
    }
  }

  ~Work() {
    if (!staging) return;
    done.acquire();
    stop = true;
    given.release();
  }

  // Hashes, checks and writes one piece, in order. After a failure nothing more is done.
  void put(const Piece& piece) {
    if (failure != 0 || !finite) return;
    const Buffer& tensor = manifest.tensors[piece.tensor];
    if (piece.begin == 0) XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, piece.data.data(), piece.data.size());
    finite = all_finite(tensor.dtype, piece.data);
    if (!finite) return;
    write(piece.data.data(), piece.data.size());
    // The disk begins at once, not when all is hashed and fsync waits for it. A wish: where it is refused, fsync does it all.
    sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
    if (piece.begin + piece.data.size() < tensor.bytes) return;
    checksums[piece.tensor] = XXH3_64bits_digest(&hash);
    write(kZeros.data(), align_up(tensor.bytes) - tensor.bytes);
  }

  void write(const void* data, Bytes bytes) {
    if (failure == 0 && !write_all(file, data, bytes)) failure = errno;
  }

  void put_image() {
    const Bytes most = staging ? static_cast<Bytes>(staging.row_elements()) : kPiece;
    std::int64_t count = 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const Bytes bytes = manifest.tensors[t].bytes;
      for (Bytes begin = 0; begin < bytes; begin += most) {
        const Bytes size = std::min(most, bytes - begin);
        if (!staging) {
          put({t, begin, {program.view(ids[t]).as<const std::byte>() + begin, size}});
          continue;
        }
        auto* half = staging.rows(count++ % 2, 1).as<std::byte>();
        program.read(ids[t], half, size, begin);
        done.acquire();  // the piece before this one is written
        if (failure == 0 && finite) {
          next = {t, begin, {half, size}};
          given.release();
        } else {
          done.release();
          return;
        }
      }
    }
    if (!staging) return;
    done.acquire();
    done.release();
  }

  void help() {
    for (given.acquire(); !stop; given.acquire()) {
      put(next);
      done.release();
    }
  }

  Saved save(const Standing& standing) {
    const Bytes offset = image_offset(encoded.size());
    failure = 0;
    finite = true;
    file = place.begin();
    if (file < 0) return refuse("created", standing, errno);
    // Where the disk is too full it says so now, not after gigabytes; where it cannot promise, it is left to find out.
    if (fallocate(file, 0, 0, static_cast<off_t>(add(offset, image_bytes(manifest.tensors)))) != 0 && errno == ENOSPC) failure = errno;
    if (failure == 0 && lseek(file, static_cast<off_t>(offset), SEEK_SET) < 0) failure = errno;
    if (failure == 0) put_image();
    // The manifest comes last: it holds the checksums.
    update_manifest(encoded, manifest.steps_per_epoch, standing, checksums);
    if (failure == 0 && lseek(file, 0, SEEK_SET) < 0) failure = errno;
    write(encoded.data(), encoded.size());
    write(kZeros.data(), offset - encoded.size());
    if (failure != 0 || !finite) {
      place.abandon(file);
      return finite ? refuse("written", standing, failure) : Saved::not_finite;
    }
    return place.finish(file, {standing.steps, standing.held_out_loss}) ? Saved::yes : refuse("put in place", standing, errno);
  }

  Saved refuse(const char* verb, const Standing& standing, int why) {
    const auto end = fmt::format_to_n(error.data(), error.size() - 1, "the checkpoint of step {} cannot be {} in {}: {}",
                                      standing.steps, verb, place.path(), strerrordesc_np(why));
    error[std::min(end.size, error.size() - 1)] = '\0';
    return Saved::no;
  }

  const Program& program;
  CheckpointPlace& place;
  const Manifest manifest;
  std::vector<std::byte> encoded;
  std::vector<std::uint64_t> checksums;
  const std::vector<TensorId> ids;  // as manifest.tensors
  int file = -1, failure = 0;  // errno of the first
  bool finite = true, stop = false;
  XXH3_state_t hash;
  std::array<char, 1024> error{};
  // On a GPU. `done` says that the thread has nothing to do.
  TensorView staging;
  Piece next{};
  std::binary_semaphore given{0}, done{1};
  std::jthread helper;
};

Saver::Saver(const Session& session, const Manifest& manifest, CheckpointPlace& place)
    : work_(std::make_unique<Work>(session, manifest, place)) {}
Saver::~Saver() = default;

Saved Saver::save(const Standing& standing) { return work_->save(standing); }
const char* Saver::error() const { return work_->error.data(); }

}  // namespace neurogen

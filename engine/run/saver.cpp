#include "engine/run/saver.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <semaphore>
#include <system_error>
#include <thread>

#include "arena/allocations.h"
#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/finite.h"
#include "engine/run/staging.h"

namespace neurogen {
namespace {

constexpr Bytes kSavedPiece = Bytes{1} << 20;  // hashed, checked and written while it is in a core's cache
constexpr std::array<std::byte, kCheckpointAlignment> kZeros{};

Manifest with_tensors(Manifest manifest, const Session& session) {
  manifest.tensors = persistent_buffers(session.arena.plan());
  manifest.weights = session.model.weight_tensors();
  return manifest;
}

}  // namespace

SavedOptions saved_options(const StepOptions& o) {
  return {o.batch,
          o.window,
          o.ranks * o.accumulate,  // a run may go on with another number of ranks
          o.vocabulary_tile,
          o.document_end,
          o.compute,
          o.decoder_storage,
          o.schedule.keep_logits,
          o.synapse_decay,
          o.clip,
          static_cast<std::uint8_t>(o.optimizer),
          o.int8_logits,
          o.narrow_weights,
          o.narrow_moments,
          o.early_updates};
}

struct Saver::Work {
  using Clock = std::chrono::steady_clock;
  struct Piece {
    std::size_t tensor;
    Bytes begin;
    std::span<const std::byte> data;
  };

  Work(const Session& session_, const Manifest& m, CheckpointPlace& place_)
      : session(session_),
        program(session.program),
        place(place_),
        manifest(with_tensors(m, session_)),
        encoded(encode_manifest(manifest)),
        checksums(manifest.tensors.size()),
        ids(persistent_tensors(session.arena.plan())),
        snapshot(Block::on_host(session.arena.plan().snapshot_bytes())) {
    if (session.model.ports.staging) staging = program.view(session.model.ports.staging);
    if (staging || snapshot.size() > 0) start_helper();
  }

  ~Work() {
    if (!helper.joinable()) return;
    done.acquire();
    stop = true;
    given.release();
  }

  void start_helper() {
    try {
      helper = std::jthread([this, account = allocation_account] {
        const ChargeAllocations charge(account);
        help();
      });
    } catch (const std::system_error& error) {
      throw Error("cannot start the thread that saves (" + error.code().message() + "): raise the limit of processes (ulimit -u)",
                  Error::kRunTime);
    }
  }

  // Hashes, checks and writes one piece, in order. Does nothing after a failure.
  void put(const Piece& piece) {
    if (failure != 0 || !finite) return;
    const Buffer& tensor = manifest.tensors[piece.tensor];
    if (piece.begin == 0) XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, piece.data.data(), piece.data.size());
    finite = all_finite(tensor.dtype, piece.data);
    if (!finite) return;
    write(piece.data.data(), piece.data.size());
    // Starts writing to disk now instead of at fsync. Optional: errors are ignored, since fsync writes everything.
    sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
    if (piece.begin + piece.data.size() < tensor.bytes) return;
    checksums[piece.tensor] = XXH3_64bits_digest(&hash);
    write(kZeros.data(), align_up(tensor.bytes) - tensor.bytes);
  }

  void write(const void* data, Bytes bytes) {
    if (failure == 0 && !write_all(file, data, bytes)) failure = errno;
  }

  // Address from which a save reads a tensor: the snapshot has the arena's layout.
  std::byte* source(std::size_t t) const {
    if (snapshot.size() == 0) return program.view(ids[t]).as<std::byte>();
    return snapshot.data() + session.arena.plan().buffers[ids[t].index].offset;
  }

  void put_image() {
    if (staging && snapshot.size() == 0) return stage();
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const Bytes bytes = manifest.tensors[t].bytes;
      for (Bytes begin = 0; begin < bytes; begin += kSavedPiece)
        put({t, begin, {source(t) + begin, std::min(kSavedPiece, bytes - begin)}});
    }
  }

  // Hands all tensors to the thread, a piece in one slot of `staging` while the next is read into another.
  void stage() {
    const auto most = static_cast<Bytes>(staging.row_elements());
    std::int64_t count = 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const Bytes bytes = manifest.tensors[t].bytes;
      for (Bytes begin = 0; begin < bytes; begin += most) {
        const Bytes size = std::min(most, bytes - begin);
        auto* slot = staging.rows(count++ % staging[0], 1).as<std::byte>();
        program.read(ids[t], slot, size, begin);
        done.acquire();  // the previous piece is written
        if (failure != 0 || !finite) return done.release();
        next = {t, begin, {slot, size}};
        given.release();
      }
    }
    done.acquire();
    done.release();
  }

  void take_snapshot() {
    const std::byte* arena = session.arena.block(ArenaKind::device).data();
    if (staging) return copy_from_gpu(session, arena, snapshot.data(), snapshot.size());
    const auto parts = static_cast<Bytes>(session.cpu->threads());
    // Large parts, so that memcpy bypasses the caches, which is faster.
    session.cpu->parallel(session.cpu->threads(), [&](std::int64_t i, int) {
      const Bytes begin = snapshot.size() * static_cast<Bytes>(i) / parts,
                  end = snapshot.size() * (static_cast<Bytes>(i) + 1) / parts;
      std::memcpy(snapshot.data() + begin, arena + begin, end - begin);
    });
  }

  // Body of the thread: writes pieces, or a whole snapshot.
  void help() {
    for (given.acquire(); !stop; given.acquire()) {
      if (snapshot.size() > 0) save();
      else put(next);
      done.release();
    }
  }

  void begin(const Standing& now) {
    result(true);
    began = Clock::now();
    standing = now;
    failure = 0;
    finite = under_way = true;
    if (snapshot.size() == 0) return save();
    take_snapshot();
    done.acquire();
    given.release();
  }

  std::optional<Saved> result(bool wait) {
    if (!under_way) return {};
    if (snapshot.size() > 0) {
      if (wait) done.acquire();
      else if (!done.try_acquire()) return {};
      done.release();
    }
    under_way = false;
    return outcome;
  }

  void save() {
    outcome = write_file();
    milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - began).count();
  }

  Saved write_file() {
    const Bytes offset = image_offset(encoded.size());
    file = place.begin();
    if (file < 0) return refuse("created", errno);
    // Reserve space, to fail now rather than after gigabytes if the disk is too full. Other errors are ignored: not every file
    // system can reserve.
    const auto size = static_cast<off_t>(add(offset, image_bytes(manifest.tensors)));
    if (uninterrupted([&] { return fallocate(file, 0, 0, size); }) != 0 && errno == ENOSPC) failure = errno;
    if (failure == 0 && lseek(file, static_cast<off_t>(offset), SEEK_SET) < 0) failure = errno;
    if (failure == 0) put_image();
    // The manifest is written last: it holds the checksums.
    update_manifest(encoded, manifest.steps_per_epoch, standing, checksums);
    if (failure == 0 && lseek(file, 0, SEEK_SET) < 0) failure = errno;
    write(encoded.data(), encoded.size());
    write(kZeros.data(), offset - encoded.size());
    if (failure != 0 || !finite) {
      place.abandon(file);
      return finite ? refuse("written", failure) : Saved::not_finite;
    }
    return place.finish(file, {standing.steps, standing.held_out_loss}) ? Saved::yes : refuse("put in place", errno);
  }

  Saved refuse(const char* verb, int why) {
    const auto end = fmt::format_to_n(error.data(), error.size() - 1, "the checkpoint of step {} cannot be {} in {}: {}",
                                      standing.steps, verb, place.path(), strerrordesc_np(why));
    error[std::min(end.size, error.size() - 1)] = '\0';
    return Saved::no;
  }

  const Session& session;
  const Program& program;
  CheckpointPlace& place;
  const Manifest manifest;
  std::vector<std::byte> encoded;
  std::vector<std::uint64_t> checksums;
  const std::vector<TensorId> ids;  // as manifest.tensors
  const Block snapshot;             // empty if the plan has none
  Standing standing;
  Clock::time_point began;
  double milliseconds = 0;
  Saved outcome = Saved::no;
  bool under_way = false;      // until its result is returned
  int file = -1, failure = 0;  // errno of the first failure
  bool finite = true, stop = false;
  XXH3_state_t hash;
  std::array<char, 1024> error{};
  TensorView staging;  // on a GPU
  Piece next{};        // for the thread; `done` is released while the thread is idle
  std::binary_semaphore given{0}, done{1};
  std::jthread helper;
};

Saver::Saver(const Session& session, const Manifest& manifest, CheckpointPlace& place)
    : work_(std::make_unique<Work>(session, manifest, place)) {}
Saver::~Saver() = default;

void Saver::begin(const Standing& standing) { work_->begin(standing); }
std::optional<Saved> Saver::result(bool wait) { return work_->result(wait); }
const char* Saver::error() const { return work_->error.data(); }
double Saver::milliseconds() const { return work_->milliseconds; }

}  // namespace neurogen

#include "tools/neurogen-engine/ranks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "arena/error.h"
#include "engine/ranks/rendezvous.h"
#include "engine/run/process.h"
#include "tools/common/output.h"
#include "tools/common/settings.h"
#include "tools/common/signals.h"
#include "tools/common/spelling.h"

namespace neurogen {
namespace {

// A step that takes this many seconds, and this many times the longest before it, never ends; the first ones take longer.
constexpr double kLeastPatience = 9, kPatience = 20;
constexpr std::int64_t kUsualSteps = 3;
constexpr Bytes kPieces = Bytes{4} << 20;  // that ranks on CPUs pass on at a time

Joined join(const RankSettings& wanted) {
  const std::optional<Launch> launch = launch_of([](const char* name) -> const char* { return std::getenv(name); });
  if (launch && wanted.gpus > 0)
    throw Error(fmt::format("--gpus starts processes, which {} has done already: leave it out", launch->launcher));
  if (launch) return meet(*launch, std::chrono::milliseconds(static_cast<std::int64_t>(wanted.wait * 1000)), NEUROGEN_VERSION);
  flush_out();
  return start_children(static_cast<int>(std::max<std::int64_t>(1, wanted.gpus)));
}

}  // namespace

// Memory of rank 0 that the others open by its process's files.
struct Ranks::Memory {
  Memory(Meeting& meeting) : bytes(SharedRanks::bytes_needed(meeting.world().size, kPieces)) {
    struct {
      pid_t process;
      int number;
    } at{getpid(), -1};
    if (meeting.world().leads()) {
      file = Descriptor(memfd_create("neurogen-ranks", MFD_CLOEXEC));
      at.number = file.get();
      if (!file || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) fail();
    }
    meeting.broadcast(at);
    if (!file) file = Descriptor(open(fmt::format("/proc/{}/fd/{}", at.process, at.number).c_str(), O_RDWR | O_CLOEXEC));
    void* const mapped = file ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0) : MAP_FAILED;
    if (mapped == MAP_FAILED) fail();
    data = static_cast<std::byte*>(mapped);
    meeting.barrier();  // rank 0's file is open until all have it
    ranks = std::make_unique<SharedRanks>(data, bytes, meeting.world().rank, meeting.world().size);
  }
  ~Memory() {
    if (data) munmap(data, bytes);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  [[noreturn]] static void fail() {
    throw Error("ranks on CPUs, which are for tests, share memory of one host, and have none here: use GPUs", Error::kRunTime);
  }

  Bytes bytes;
  std::byte* data = nullptr;
  Descriptor file;
  std::unique_ptr<SharedRanks> ranks;
};

void add_rank_settings(CLI::App& app, RankSettings& s) {
  add_gpus(app, s.gpus);
  app.add_option("--meet-within", s.wait, "seconds for ranks that a launcher starts to find each other")
      ->type_name("SECONDS")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 1e6));
  app.add_option(
         "--compare-every", s.compare_every,
         "with several GPUs: steps between checks that all hold the same weights, bit for bit; 0: only before the first and "
         "after the last")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
}

Ranks::Ranks(const RankSettings& wanted, bool resumable, Settings& settings) : wanted_(wanted) {
  Joined joined = join(wanted);
  const World world = joined.world;
  if (world.size == 1) return;
  if (!world.leads()) {
    silence_output();
    catch_signals(true);  // they are rank 0's to act on
  }
  settings.ranks = world.size;
  settings.rank = world.rank;
  settings.local_rank = world.local;
  settings.own_gpu = wanted.gpus == 0;
  const std::string advice = resumable ? "start again with --resume, which goes on from the newest checkpoint" : "start again";
  meeting_ = std::make_unique<Meeting>(std::move(joined), Manner{"neurogen-engine", advice, caught_signal});
}

Ranks::~Ranks() = default;

int Ranks::run(const std::function<int()>& work) { return meeting_ ? meeting_->run(work, option_of) : work(); }

void Ranks::agree(std::string_view what, std::string_view text) {
  if (meeting_) meeting_->agree(what, text);
}

std::string Ranks::from_rank_zero(const std::string& text) {
  if (!meeting_) return text;
  std::uint64_t size = text.size();
  meeting_->broadcast(size);
  std::string shared = leads() ? text : std::string(size, '\0');
  meeting_->broadcast(std::as_writable_bytes(std::span(shared)));
  return shared;
}

void Ranks::connect(Resolved& resolved) {
  if (!meeting_) return;
  Place& place = resolved.place;
  if (!place.gpu) {
    memory_ = std::make_unique<Memory>(*meeting_);
    place.shared = memory_->ranks.get();
    return;
  }
#ifdef NEUROGEN_CUDA
  place.gather = [this](std::span<const std::byte> mine, std::span<std::byte> all) {
    meeting_->gather(mine, all);
    meeting_->broadcast(all);
  };
  const auto of_all = [&](const auto& mine) {
    std::vector<std::remove_cvref_t<decltype(mine)>> all(static_cast<std::size_t>(size()));
    place.gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
    return all;
  };
  const std::vector<char> reached = of_all(char{Peers::reaches(place.ordinal, of_all(Peers::card(place.ordinal)))});
  place.linked = std::count(reached.begin(), reached.end(), 1) == size();
  if (place.linked) {
    resolved.options.target.nccl = 0;
    return;
  }
  const HeapCapLifted loading;  // NCCL's own
  if (leads()) place.nccl = Nccl::new_id();
  meeting_->broadcast(place.nccl);
#endif
}

int Ranks::stopped() const {
  if (const int own = caught_signal(); own != 0 || !meeting_) return own;
  return meeting_->watcher().passed_signal();
}

void Ranks::release() {
  if (meeting_) meeting_->watcher().release();
}

Orders::Orders(Ranks& ranks, Session& session) : ranks_(ranks), session_(session) {
  if (!ranks.several()) return;
  const std::size_t tensors = session.program.view(session.model.ports.checksums).elements();
  all_.resize(std::max<std::size_t>(tensors, 1) * static_cast<std::size_t>(ranks.size()));
}

void Orders::step(Step step) {
  if (!ranks_.several()) return;
  begin_ = std::chrono::steady_clock::now();
  const double most = steps_ < kUsualSteps ? 0 : std::max(kLeastPatience, kPatience * longest_);
  ranks_.meeting_->watcher().expect_within(static_cast<int>(most));
  ranks_.meeting_->broadcast(step);
}

void Orders::stepped() {
  if (!ranks_.several()) return;
  ranks_.meeting_->watcher().expect_within(0);
  ++steps_;
  longest_ = std::max(longest_, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count());
}

void Orders::finish() {
  step({0, false, false});
  stepped();
}

std::optional<Orders::Step> Orders::next() {
  Step step{};
  ranks_.meeting_->broadcast(step);
  return step.steps > 0 ? std::optional(step) : std::nullopt;
}

void Orders::compare(std::int64_t step) {
  if (!ranks_.several()) return;
  session_.program.run(session_.model.programs.compare);
  const TensorView own = session_.program.view(session_.model.ports.checksums);
  const std::span mine(own.as<const std::uint64_t>(), static_cast<std::size_t>(own.elements()));
  const auto found = ranks_.meeting_->difference(mine, all_);
  if (!found) return;
  const TensorId tensor = session_.model.compared[found->number];
  throw Error(
      fmt::format("after step {} rank {} holds other values of {} than rank 0: look for a faulty GPU, and start again from a "
                  "checkpoint before it",
                  step, found->rank, session_.arena.plan().buffers[tensor.index].name),
      Error::kRunTime);
}

Bytes Orders::largest(Bytes mine) {
  if (!ranks_.several()) return mine;
  const auto all = std::span(all_).first(static_cast<std::size_t>(ranks_.size()));
  ranks_.meeting_->gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(all));
  return ranks_.leads() ? *std::max_element(all.begin(), all.end()) : mine;
}

}  // namespace neurogen

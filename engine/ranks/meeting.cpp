#include "engine/ranks/meeting.h"

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <vector>

#include "arena/error.h"

namespace neurogen {
namespace {

constexpr int kUntilTheWatcher = 15;  // seconds in which the watcher ends a process whose other rank is lost

void require(bool connected, const Link& link) {
  if (connected) return;
  sleep(kUntilTheWatcher);
  throw Error(fmt::format("the connection to rank {} is lost: start the run again", link.rank), Error::kRunTime);
}

// A text of any length: compared by its hash, shown by its beginning.
struct Claim {
  std::uint64_t hash;
  std::array<char, 120> shown;
};

}  // namespace

void Meeting::broadcast(std::span<std::byte> bytes) {
  for (const Link& link : joined_.links)
    require(world().leads() ? send_all(link.data.get(), bytes) : receive_all(link.data.get(), bytes), link);
}

void Meeting::gather(std::span<const std::byte> mine, std::span<std::byte> all) {
  if (world().leads()) std::copy(mine.begin(), mine.end(), all.begin());
  for (const Link& link : joined_.links) {
    if (!world().leads()) require(send_all(link.data.get(), mine), link);
    else require(receive_all(link.data.get(), all.subspan(static_cast<std::size_t>(link.rank) * mine.size(), mine.size())), link);
  }
}

void Meeting::barrier() {
  std::array<std::byte, kMostRanks> all;
  std::byte nothing{};
  gather({&nothing, 1}, all);
  broadcast(nothing);
}

std::optional<Meeting::Difference> Meeting::difference(std::span<const std::uint64_t> mine, std::span<std::uint64_t> all) {
  gather(std::as_bytes(mine), std::as_writable_bytes(all));
  for (std::size_t i = mine.size(); world().leads() && i < all.size(); ++i) {
    if (all[i] != mine[i % mine.size()]) return Difference{i / mine.size(), i % mine.size()};
  }
  return std::nullopt;
}

void Meeting::agree(std::string_view what, std::string_view text) {
  Claim mine{XXH3_64bits(text.data(), text.size()), {}};
  text.copy(mine.shown.data(), mine.shown.size() - 1);
  std::vector<Claim> all(static_cast<std::size_t>(world().size));
  gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  if (!world().leads()) return;
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank].hash == mine.hash) continue;
    all[rank].shown.back() = '\0';
    throw Error(fmt::format("rank {} has {} {}, rank 0 has {}: start all ranks alike", rank, what, all[rank].shown.data(),
                            mine.shown.data()));
  }
}

int Meeting::run(const std::function<int()>& work, Spelling spelling) {
  try {
    const int status = work();
    if (!world().leads()) watcher_.wait_for_the_end();
    watcher_.end_others(status);
    return status;
  } catch (const Error& error) {
    fail(error.sentence(spelling), error.status());
    throw;
  } catch (const std::exception& error) {
    fail(error.what(), Error::kRunTime);
    throw;
  }
}

void Meeting::fail(const std::string& sentence, int status) {
  if (!world().leads()) watcher_.fail(sentence, status);
  if (!watcher_.may_speak()) watcher_.wait_for_the_end();
  watcher_.end_others(status);
}

}  // namespace neurogen

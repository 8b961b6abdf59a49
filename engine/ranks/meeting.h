// Messages between ranks other than sums: rank 0's orders, and comparisons.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "arena/error.h"
#include "engine/ranks/links.h"
#include "engine/ranks/watcher.h"

namespace neurogen {

// All ranks make the same calls in the same order. The calls wait for the other ranks, for as long as the watcher finds them alive;
// a rank that is lost ends this process. Between the constructor and failures nothing is allocated.
class Meeting {
 public:
  Meeting(Joined joined, Manner manner) : joined_(std::move(joined)), watcher_(joined_, std::move(manner)) {}

  const World& world() const { return joined_.world; }
  Watcher& watcher() { return watcher_; }

  // Copies rank 0's bytes to all.
  void broadcast(std::span<std::byte> bytes);
  // Collects equally many bytes of each rank on rank 0, in their order. `all`: world().size times as many; elsewhere unused.
  void gather(std::span<const std::byte> mine, std::span<std::byte> all);
  // Returns when all ranks have called it.
  void barrier();
  // On rank 0, the first number in which a rank differs from rank 0, if there is one; nothing elsewhere. `all`: as gather.
  struct Difference {
    std::size_t rank, number;
  };
  std::optional<Difference> difference(std::span<const std::uint64_t> mine, std::span<std::uint64_t> all);
  // Throws Error on rank 0 if a rank's text differs from its own: "rank 1 has the seed 2, rank 0 has 1: ...".
  void agree(std::string_view what, std::string_view text);

  template <typename T>
  void broadcast(T& value) {
    broadcast(std::as_writable_bytes(std::span(&value, 1)));
  }

  // Does this rank's work. On rank 0, returns the status that `work` returns, or throws what it throws, after all others have
  // ended with that status. The others end here, as soon as rank 0 does; an Error of theirs is rank 0's to say.
  int run(const std::function<int()>& work, Spelling spelling);

 private:
  void fail(const std::string& sentence, int status);

  Joined joined_;
  Watcher watcher_;
};

}  // namespace neurogen

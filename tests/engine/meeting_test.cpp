// Ranks as processes: what they say to each other, and how all end when one of them cannot go on.
#include "engine/ranks/meeting.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "arena/error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using std::string;
using Clock = std::chrono::steady_clock;
using Work = std::function<int(Meeting&)>;

// Memory that all processes of a test share.
struct Shared {
  std::array<std::atomic<int>, 8> process, done;
};

volatile std::sig_atomic_t caught = 0;

// A run of several ranks, each a process that does `work`.
class Family {
 public:
  Family(int size, const Work& work) {
    void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared_ = new (memory) Shared{};
    prctl(PR_SET_CHILD_SUBREAPER, 1);  // rank 0's children become ours when it ends
    rank0_ = fork();
    if (rank0_ != 0) return;
    const int err = open(errors().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(err, STDERR_FILENO);
    _exit(rank(size, work));
  }
  ~Family() {
    munmap(shared_, sizeof(Shared));
    prctl(PR_SET_CHILD_SUBREAPER, 0);
  }

  void kill(int rank, int signal) const { ::kill(process(rank), signal); }
  int process(int rank) const {
    const auto r = static_cast<std::size_t>(rank);
    while (shared_->process[r] == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return shared_->process[r];
  }
  // The status of rank 0: its exit status, or 128 plus the signal that ended it. All must end soon, and those that
  // outlive rank 0 with `others`.
  int status(int others = 1) {
    const Clock::time_point begin = Clock::now();
    int first = 0;
    waitpid(rank0_, &first, 0);
    for (const auto& process : shared_->process) {
      while (process != 0 && ::kill(process, 0) == 0) {
        int status = 0;
        if (waitpid(process, &status, WNOHANG) == process) {
          EXPECT_EQ(exit_status(status), others);
        }
        if (Clock::now() - begin > std::chrono::seconds(20)) break;
        usleep(1000);
      }
    }
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20));
    return exit_status(first);
  }
  string said() const { return read_file(errors()); }
  int done(int rank) const { return shared_->done[static_cast<std::size_t>(rank)]; }

 private:
  string errors() const { return directory_.path("err"); }
  static int exit_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }
  int rank(int size, const Work& work) {
    std::signal(SIGUSR1, [](int number) { caught = number; });
    Meeting meeting(start_children(size), {"test", "begin again", [] { return static_cast<int>(caught); }});
    const auto own = static_cast<std::size_t>(meeting.world().rank);
    shared_->process[own] = getpid();
    try {
      return meeting.run(
          [&] {
            const int status = work(meeting);
            shared_->done[own] = 1;
            return status;
          },
          plain);
    } catch (const Error& error) {
      std::fprintf(stderr, "test: %s\n", error.what());
      return error.status();
    }
  }

  TemporaryDirectory directory_;
  Shared* shared_;
  pid_t rank0_;
};

int forever(Meeting&) {
  for (;;) pause();
}

TEST(Meeting, RanksHearRankZeroAndAreHeard) {
  Family run(3, [](Meeting& meeting) {
    for (int i = 0; i < 100; ++i) {
      int order = meeting.world().leads() ? 1000 + i : 0;
      meeting.broadcast(order);
      if (order != 1000 + i) return 3;
      const int mine = order * 10 + meeting.world().rank;
      std::array<int, 3> all{};
      meeting.gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
      if (meeting.world().leads() && all != std::array{order * 10, order * 10 + 1, order * 10 + 2}) return 4;
      meeting.barrier();
    }
    meeting.agree("the seed", "1");
    return 0;
  });
  EXPECT_EQ(run.status(), 0);
  EXPECT_EQ(run.said(), "");
  EXPECT_EQ(run.done(0) + run.done(1) + run.done(2), 3);
}

TEST(Meeting, AnyNumberThatDiffersIsFound) {
  Family run(3, [](Meeting& meeting) {
    std::array<std::uint64_t, 2> mine = {7, 8};
    std::array<std::uint64_t, 6> all{};
    if (meeting.difference(mine, all)) return 3;
    if (meeting.world().rank == 2) mine[1] = 9;
    const auto found = meeting.difference(mine, all);
    if (meeting.world().leads() != found.has_value()) return 4;
    return !found || (found->rank == 2 && found->number == 1) ? 0 : 5;
  });
  EXPECT_EQ(run.status(), 0);
}

TEST(Meeting, ADifferenceIsSaidOnce) {
  Family run(3, [](Meeting& meeting) {
    meeting.agree("the text", "same");
    meeting.agree("the seed", meeting.world().rank == 2 ? "7" : "1");
    return 0;
  });
  EXPECT_EQ(run.status(), 2);
  EXPECT_EQ(run.said(), "test: rank 2 has the seed 7, rank 0 has 1: start all ranks alike\n");
}

TEST(Meeting, AFailureOfOneRankEndsAll) {
  Family run(3, [](Meeting& meeting) {
    if (meeting.world().rank == 1) throw Error("the disk is full: make room", Error::kRunTime);
    return forever(meeting);
  });
  EXPECT_EQ(run.status(), 1);
  EXPECT_EQ(run.said(), "test: rank 1: the disk is full: make room\n");
}

TEST(Meeting, AFailureOfAllRanksIsSaidOnce) {
  for (int i = 0; i < 5; ++i) {
    Family run(3, [](Meeting&) -> int { throw Error("no such text: name another"); });
    EXPECT_EQ(run.status(), 2);
    EXPECT_EQ(run.said(), "test: no such text: name another\n");
  }
}

TEST(Meeting, OthersEndWithTheStatusOfRankZero) {
  Family run(2, [](Meeting& meeting) { return meeting.world().leads() ? 143 : 0; });
  EXPECT_EQ(run.status(), 143);
  EXPECT_EQ(run.said(), "");
}

TEST(Meeting, AKilledRankEndsAllHoweverTheyWait) {
  for (int killed = 0; killed < 3; ++killed) {
    for (const bool talking : {false, true}) {
      Family run(3, [&](Meeting& meeting) {
        if (!talking) return forever(meeting);
        for (;;) meeting.barrier();
      });
      for (int rank = 0; rank < 3; ++rank) run.process(rank);
      run.kill(killed, SIGKILL);
      EXPECT_EQ(run.status(), killed == 0 ? 128 + SIGKILL : 1);
      EXPECT_EQ(run.said(), killed == 0 ? "test: rank 0 has ended: begin again\n"
                                        : "test: rank " + std::to_string(killed) + " was ended by signal 9: begin again\n");
    }
  }
}

TEST(Meeting, ARankThatLeavesWithoutAWordIsNamed) {
  Family run(2, [](Meeting& meeting) -> int {
    if (meeting.world().rank == 1) _exit(5);
    return forever(meeting);
  });
  EXPECT_EQ(run.status(), 1);
  EXPECT_EQ(run.said(), "test: rank 1 has ended with status 5: begin again\n");
}

// Each takes the time in which a rank may be silent, so they run together.
TEST(Meeting, AStoppedRankEndsAllAndAPauseOfAllDoesNot) {
  Family other(3, forever), leader(3, forever);
  Family paused(2, [](Meeting& meeting) {
    const Clock::time_point begin = Clock::now();
    while (Clock::now() - begin < std::chrono::seconds(10)) usleep(10'000);
    meeting.barrier();
    return 0;
  });
  for (int rank = 0; rank < 3; ++rank) other.process(rank), leader.process(rank);
  for (int rank = 0; rank < 2; ++rank) paused.process(rank);
  for (int rank = 0; rank < 2; ++rank) paused.kill(rank, SIGSTOP);
  other.kill(1, SIGSTOP);
  leader.kill(0, SIGSTOP);
  EXPECT_EQ(other.status(), 1);
  EXPECT_EQ(other.said(), "test: rank 1 has not answered for 7 seconds: begin again\n");
  EXPECT_EQ(leader.status(), 128 + SIGKILL);  // by a child: nothing else ends a stopped process
  EXPECT_EQ(leader.said(), "test: rank 0 has not answered for 7 seconds: begin again\n");
  std::this_thread::sleep_for(std::chrono::seconds(1));
  for (int rank = 0; rank < 2; ++rank) paused.kill(rank, SIGCONT);
  EXPECT_EQ(paused.status(), 0);
  EXPECT_EQ(paused.said(), "");
}

TEST(Meeting, AnExchangeThatDoesNotEndEndsAll) {
  Family run(2, [](Meeting& meeting) {
    if (meeting.world().leads()) meeting.watcher().expect_within(2);
    return forever(meeting);
  });
  EXPECT_EQ(run.status(), 1);
  EXPECT_EQ(run.said(), "test: the ranks wait for each other in vain, though all of them run: begin again\n");
}

TEST(Meeting, RankZeroMayOutliveTheOthersOnceItNeedsThemNoMore) {
  Family run(2, [](Meeting& meeting) -> int {
    if (meeting.world().leads()) meeting.watcher().release();
    meeting.barrier();
    if (!meeting.world().leads()) _exit(0);
    usleep(300'000);
    return 0;
  });
  EXPECT_EQ(run.status(), 0);
  EXPECT_EQ(run.said(), "");
}

TEST(Meeting, RankZeroHearsOfSignalsToOthers) {
  Family run(2, [](Meeting& meeting) {
    if (!meeting.world().leads()) return 0;
    while (meeting.watcher().passed_signal() == 0) usleep(1000);
    return meeting.watcher().passed_signal();
  });
  run.kill(1, SIGUSR1);
  EXPECT_EQ(run.status(), SIGUSR1);
}

}  // namespace
}  // namespace neurogen

#include "engine/ranks/watcher.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <system_error>

#include "arena/allocations.h"
#include "arena/error.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kBeat(1);
constexpr int kGrace = 2;  // beats in which rank 0 may fail by itself, often for the same reason, before it speaks for another
constexpr int kDyingMilliseconds = 8000, kReapMilliseconds = 300, kPause = 5;

// Waits for a child's end; false if it still runs. `status`: as waitpid gives it, unchanged if it was waited for before.
bool reap(pid_t process, int& status, int milliseconds) {
  for (int waited = 0;; waited += kPause) {
    if (waitpid(process, &status, WNOHANG) != 0) return true;  // or it has been waited for already
    if (waited >= milliseconds) return false;
    usleep(kPause * 1000);
  }
}

}  // namespace

Watcher::Watcher(const Joined& joined, Manner manner)
    : joined_(joined), manner_(std::move(manner)), seen_(joined.links.size()), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  try {
    thread_ = std::thread([this, account = allocation_account] {
      const ChargeAllocations charge(account);
      watch();
    });
  } catch (const std::system_error& error) {
    throw Error("cannot start the thread that watches other ranks (" + error.code().message() +
                    "): raise the limit of processes (ulimit -u)",
                Error::kRunTime);
  }
}

Watcher::~Watcher() {
  if (!thread_.joinable()) return;
  stop_ = true;
  eventfd_write(wake_.get(), 1);
  thread_.join();
}

bool Watcher::may_speak() {
  if (spoken_.exchange(true)) return false;
  eventfd_t token;
  return !joined_.voice || eventfd_read(joined_.voice.get(), &token) == 0;
}

void Watcher::end_others(int status) {
  release();
  end_children(status, kDyingMilliseconds);
  stop_ = true;
}

void Watcher::fail(std::string_view sentence, int status) {
  send(joined_.links.front(), Kind::failure, status, sentence);
  wait_for_the_end();
}

void Watcher::wait_for_the_end() {
  for (;;) pause();
}

void Watcher::send(const Link& link, Kind kind, int value, std::string_view text) {
  Note note{kind, value, {}};
  text.copy(note.text.data(), note.text.size() - 1);
  const std::lock_guard lock(sending_);
  // A link that takes nothing more is that of a rank that does not answer, which its missing beats will say.
  [[maybe_unused]] const ssize_t sent = ::send(link.control.get(), &note, sizeof note, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// Beats are counted instead of seconds: a process that was stopped, such as by Ctrl-Z with all others, has not listened meanwhile.
void Watcher::watch() {
  std::vector<pollfd> polled(joined_.links.size() + 1);
  polled.back() = {wake_.get(), POLLIN, 0};
  Clock::time_point next = Clock::now();
  while (!stop_) {
    if (Clock::now() >= next) {
      next = Clock::now() + kBeat;
      beat();
    }
    for (std::size_t i = 0; i < seen_.size(); ++i) polled[i] = {seen_[i].over ? -1 : joined_.links[i].control.get(), POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - Clock::now()).count();
    poll(polled.data(), polled.size(), static_cast<int>(std::max<std::int64_t>(left, 0)) + 1);
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      if (polled[i].fd >= 0 && polled[i].revents != 0) read_notes(i);
    }
  }
}

// Writes "PROGRAM: ..." in one line, if this process is the one to speak.
template <typename... Values>
void Watcher::say(fmt::format_string<Values...> format, const Values&... values) {
  if (!may_speak()) return;
  char line[1400];
  const char* const above = isatty(STDERR_FILENO) != 0 ? "\r\033[K" : "";  // a bar of progress may stand in the line
  auto end = fmt::format_to_n(line, sizeof line - 1, "{}{}: ", above, manner_.program);
  end = fmt::vformat_to_n(end.out, static_cast<std::size_t>(line + sizeof line - 1 - end.out), fmt::string_view(format),
                          fmt::make_format_args(values...));
  *end.out++ = '\n';
  write_all(STDERR_FILENO, line, static_cast<std::size_t>(end.out - line));
}

void Watcher::beat() {
  if (failed_ >= 0 && --grace_ == 0) {
    const auto failed = static_cast<std::size_t>(failed_);
    say("rank {}: {}", joined_.links[failed].rank, static_cast<const char*>(seen_[failed].note.text.data()));
    die(seen_[failed].note.value);
  }
  // Only this thread counts down; if the main thread sets it anew meanwhile, that holds.
  if (int patience = patience_; patience > 0 && patience_.compare_exchange_strong(patience, patience - 1) && patience == 1) {
    say("the ranks wait for each other in vain, though all of them run: {}", manner_.advice);
    die(Error::kRunTime);
  }
  const int signal = joined_.world.leads() || told_ ? 0 : manner_.signal();
  for (std::size_t i = 0; i < seen_.size(); ++i) {
    if (seen_[i].over) continue;
    send(joined_.links[i], signal != 0 ? Kind::signal : Kind::beat, signal);
    if (++seen_[i].missed > kLost) lose(i, true);
  }
  told_ = told_ || signal != 0;
}

void Watcher::read_notes(std::size_t i) {
  Seen& seen = seen_[i];
  for (;;) {
    char* const to = reinterpret_cast<char*>(&seen.note) + seen.bytes;
    const ssize_t got = recv(joined_.links[i].control.get(), to, sizeof seen.note - seen.bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return lose(i, false);
    seen.bytes += static_cast<std::size_t>(got);
    if (seen.bytes < sizeof seen.note) continue;
    seen.bytes = 0;
    seen.missed = 0;
    seen.note.text.back() = '\0';
    take(i);
    if (seen.over) return;
  }
}

void Watcher::take(std::size_t i) {
  Seen& seen = seen_[i];
  switch (seen.note.kind) {
    case Kind::end:
      if (!joined_.world.leads()) _exit(seen.note.value);
      break;
    case Kind::failure:
      seen.over = true;
      if (failed_ < 0 && !released_) failed_ = static_cast<int>(i), grace_ = kGrace;
      break;
    case Kind::signal:
      passed_ = seen.note.value;
      break;
    default:
      break;
  }
}

// `silent`: the rank is there but does not answer; otherwise its connection is closed.
void Watcher::lose(std::size_t i, bool silent) {
  Seen& seen = seen_[i];
  seen.over = true;
  if (released_ || stop_ || failed_ >= 0) return;
  const Link& link = joined_.links[i];
  char how[80];
  int status = 0;
  auto end = fmt::format_to_n(how, sizeof how - 1, "has ended");
  if (silent) end = fmt::format_to_n(how, sizeof how - 1, "has not answered for {} seconds", kLost);
  else if (joined_.world.leads() && link.process != 0 && reap(link.process, status, kReapMilliseconds))
    end = WIFSIGNALED(status) ? fmt::format_to_n(how, sizeof how - 1, "was ended by signal {}", WTERMSIG(status))
                              : fmt::format_to_n(how, sizeof how - 1, "has ended with status {}", WEXITSTATUS(status));
  *end.out = '\0';
  say("rank {} {}: {}", link.rank, static_cast<const char*>(how), manner_.advice);
  if (silent && !joined_.world.leads() && getppid() == link.process) kill(link.process, SIGKILL);  // as end_children
  die(Error::kRunTime);
}

void Watcher::die(int status) {
  if (joined_.world.leads()) end_children(status, kReapMilliseconds);
  _exit(status);
}

// They get a moment to end by themselves; a stopped process ends by no other signal, and holds its GPU until then.
void Watcher::end_children(int status, int milliseconds) {
  for (const Link& link : joined_.links) send(link, Kind::end, status);
  for (const Link& link : joined_.links) {
    int ignored;
    if (link.process == 0 || reap(link.process, ignored, milliseconds)) continue;
    kill(link.process, SIGKILL);
    reap(link.process, ignored, kPause);  // not longer: a GPU's driver may hold it
  }
}

}  // namespace neurogen

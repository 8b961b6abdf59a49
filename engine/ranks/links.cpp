#include "engine/ranks/links.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "arena/error.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

struct Pair {
  Descriptor ours, theirs;
};
Pair pair_of_sockets() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw Error(std::string("the system has no sockets for the ranks: ") + std::strerror(errno), Error::kRunTime);
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}
Descriptor::~Descriptor() {
  if (number_ >= 0) close_quietly(number_);
}

Joined start_children(int size) {
  Joined parent{{0, size, 0}, {}, Descriptor(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK))};
  const pid_t self = getpid();
  std::signal(SIGCHLD, SIG_DFL);  // ignored, it would hide how children end
  for (int rank = 1; rank < size; ++rank) {
    Pair data = pair_of_sockets(), control = pair_of_sockets();
    const pid_t child = fork();
    if (child == 0) {
      // The parent's ends close with `parent` here: otherwise nobody would see the parent's death.
      Joined own{{rank, size, rank}, {}, std::move(parent.voice)};
      own.links.push_back({0, std::move(data.theirs), std::move(control.theirs), self});
      return own;
    }
    if (child < 0) {
      const int why = errno;
      for (const Link& link : parent.links) {
        kill(link.process, SIGKILL);
        waitpid(link.process, nullptr, 0);
      }
      throw Error(std::string("the system starts no more processes (") + std::strerror(why) + "): raise the limit (ulimit -u)",
                  Error::kRunTime);
    }
    parent.links.push_back({rank, std::move(data.ours), std::move(control.ours), child});
  }
  return parent;
}

bool send_all(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = uninterrupted([&] { return send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

bool receive_all(int socket, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = uninterrupted([&] { return recv(socket, bytes.data(), bytes.size(), 0); });
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

}  // namespace neurogen

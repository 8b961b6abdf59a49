#include "engine/ranks/rendezvous.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "arena/error.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr std::array<char, 8> kMagic = {'N', 'G', 'R', 'A', 'N', 'K', 'S', '1'};
constexpr milliseconds kHelloWithin(5000);  // a stranger that says nothing is sent away
constexpr milliseconds kRetry(200), kMargin(5000);
constexpr std::size_t kMostStrangers = 256;

enum class Channel : std::int32_t { data, control };

// The first message on each of a rank's two connections. Rank 0 sends an Answer when all ranks have come, or when it gives up.
struct Hello {
  std::array<char, 8> magic = kMagic;
  std::int32_t rank = 0, size = 0;
  Channel channel = Channel::data;
  std::int32_t unused = 0;
  std::uint64_t job = 0;
  std::array<char, 32> version{};
};
enum class Verdict : std::int32_t { welcome, dismissed, another_job };
struct Answer {
  std::array<char, 8> magic = kMagic;
  Verdict verdict = Verdict::welcome;
  std::int32_t status = 0;
};

double seconds_of(milliseconds time) { return static_cast<double>(time.count()) / 1000; }

int left(Clock::time_point until) {
  return static_cast<int>(std::max<std::int64_t>(0, std::chrono::duration_cast<milliseconds>(until - Clock::now()).count()));
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

class Addresses {
 public:
  Addresses(const char* host, int port, int flags) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    error = getaddrinfo(host, std::to_string(port).c_str(), &hints, &first_);
  }
  ~Addresses() {
    if (first_) freeaddrinfo(first_);
  }
  Addresses(const Addresses&) = delete;
  Addresses& operator=(const Addresses&) = delete;
  const addrinfo* first() const { return first_; }
  int error = 0;

 private:
  addrinfo* first_ = nullptr;
};

// Whether the other side has not closed it; nothing is taken out of it.
bool is_open(const Descriptor& connection) {
  char byte;
  const ssize_t got = recv(connection.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

Descriptor socket_for(const addrinfo& at) {
  return Descriptor(socket(at.ai_family, at.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at.ai_protocol));
}

// From now on, calls wait; small messages leave at once.
void settle(const Descriptor& connection) {
  const int on = 1, flags = fcntl(connection.get(), F_GETFL);
  fcntl(connection.get(), F_SETFL, flags & ~O_NONBLOCK);
  setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// Listens at the address if it is this host's own, else, as behind a service's name, at all addresses.
Descriptor listen_at(const Launch& launch) {
  int why = 0;
  for (const bool everywhere : {false, true}) {
    const Addresses addresses(everywhere ? nullptr : launch.address.c_str(), launch.port, AI_PASSIVE);
    for (const addrinfo* at = addresses.first(); at != nullptr; at = at->ai_next) {
      Descriptor listener = socket_for(*at);
      const int on = 1;
      setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      if (bind(listener.get(), at->ai_addr, at->ai_addrlen) == 0 && listen(listener.get(), SOMAXCONN) == 0) return listener;
      why = errno;
      if (why == EADDRINUSE)
        throw Error(
            fmt::format("port {} is in use by another program: set MASTER_PORT to another number for all ranks, which meet "
                        "at the port after it",
                        launch.port));
    }
  }
  throw Error(fmt::format("rank 0 cannot listen at port {} ({}): set MASTER_PORT to another number for all ranks", launch.port,
                          std::strerror(why)));
}

// Those that come to rank 0.
class Reception {
 public:
  Reception(const Launch& launch, const std::string& version) : launch_(launch), version_(version), listener_(listen_at(launch)) {
    joined_.world = launch.world;
    for (int rank = 1; rank < launch.world.size; ++rank) joined_.links.push_back({rank, {}, {}});
  }
  ~Reception() {
    if (!complete_) answer_all({kMagic, Verdict::dismissed, Error::kMisuse});
  }
  Reception(const Reception&) = delete;
  Reception& operator=(const Reception&) = delete;

  Joined receive(milliseconds limit) {
    const Clock::time_point end = Clock::now() + limit;
    while (!missing().empty()) {
      if (left(end) == 0) throw Error(late(limit));
      wait(left(end));
      admit();
      for (std::size_t i = 0; i < strangers_.size();) {
        if (listen_to(strangers_[i]) && strangers_[i].since + kHelloWithin > Clock::now()) ++i;
        else strangers_.erase(strangers_.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    complete_ = true;
    for (const Link& link : joined_.links) settle(link.data), settle(link.control);
    answer_all({});
    return std::move(joined_);
  }

 private:
  struct Stranger {
    Descriptor connection;
    Clock::time_point since;
    Hello hello{};
    std::size_t bytes = 0;
  };

  std::vector<int> missing() const {
    std::vector<int> ranks;
    for (const Link& link : joined_.links)
      if (!link.data || !link.control) ranks.push_back(link.rank);
    return ranks;
  }

  std::string late(milliseconds limit) const {
    constexpr std::size_t kShown = 20;
    std::vector<int> ranks = missing();
    const std::size_t all = ranks.size();
    ranks.resize(std::min(all, kShown));
    return fmt::format("rank{} {}{} of {} did not come to {}:{} within {} seconds: start them there, or all later ones again",
                       all == 1 ? "" : "s", fmt::join(ranks, ", "), all > kShown ? " and more" : "", launch_.world.size,
                       launch_.address, launch_.port, seconds_of(limit));
  }

  void wait(int most) const {
    std::vector<pollfd> polled = {{listener_.get(), POLLIN, 0}};
    for (const Stranger& stranger : strangers_) polled.push_back({stranger.connection.get(), POLLIN, 0});
    poll(polled.data(), polled.size(), std::min(most, 1000));
  }

  void admit() {
    for (;;) {
      Descriptor connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!connection) return;
      if (strangers_.size() >= kMostStrangers) strangers_.erase(strangers_.begin());
      strangers_.push_back({std::move(connection), Clock::now()});
    }
  }

  // False once there is nothing more to expect.
  bool listen_to(Stranger& stranger) {
    auto* const to = reinterpret_cast<char*>(&stranger.hello) + stranger.bytes;
    const ssize_t got = recv(stranger.connection.get(), to, sizeof(Hello) - stranger.bytes, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    stranger.bytes += static_cast<std::size_t>(got);
    if (stranger.bytes < sizeof(Hello)) return true;
    judge(stranger);
    return false;
  }

  void judge(Stranger& stranger) {
    Hello& hello = stranger.hello;
    if (hello.magic != kMagic) return;
    if (hello.job != launch_.job) {
      send_all(stranger.connection.get(), bytes_of(Answer{kMagic, Verdict::another_job, Error::kMisuse}));
      return;
    }
    hello.version.back() = '\0';
    const auto refuse = [&](const std::string& sentence) {
      refused_ = std::move(stranger.connection);
      throw Error(sentence);
    };
    if (version_ != hello.version.data())
      refuse(fmt::format("rank {} has version {}, rank 0 has {}: install the same everywhere", hello.rank,
                         one_line(hello.version.data(), 40), version_));
    if (hello.size != launch_.world.size)
      refuse(fmt::format("rank {} is one of {} by its launcher, rank 0 one of {}: start all ranks alike", hello.rank, hello.size,
                         launch_.world.size));
    if (hello.rank < 1 || hello.rank >= launch_.world.size)
      refuse(fmt::format("a second process is rank {}: give every process a rank of its own", hello.rank));
    Link& link = joined_.links[static_cast<std::size_t>(hello.rank) - 1];
    Descriptor& place = hello.channel == Channel::data ? link.data : link.control;
    if (place && is_open(place)) refuse(fmt::format("two processes are rank {}: give every process a rank of its own", hello.rank));
    place = std::move(stranger.connection);
  }

  void answer_all(const Answer& answer) const {
    if (refused_) send_all(refused_.get(), bytes_of(answer));
    for (const Link& link : joined_.links)
      for (const Descriptor* place : {&link.data, &link.control})
        if (*place) send_all(place->get(), bytes_of(answer));
  }

  const Launch& launch_;
  const std::string version_;
  Descriptor listener_, refused_;
  Joined joined_;
  std::vector<Stranger> strangers_;
  bool complete_ = false;
};

// Connects with rank 0; returns nothing, and why, if it does not answer now.
Descriptor connection_to(const Launch& launch, Clock::time_point end, std::string& why) {
  const Addresses addresses(launch.address.c_str(), launch.port, 0);
  if (addresses.error != 0) why = gai_strerror(addresses.error);
  for (const addrinfo* at = addresses.first(); at != nullptr; at = at->ai_next) {
    Descriptor connection = socket_for(*at);
    int error = connect(connection.get(), at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      pollfd polled{connection.get(), POLLOUT, 0};
      socklen_t length = sizeof error;
      if (poll(&polled, 1, left(end)) != 1) error = ETIMEDOUT;
      else getsockopt(connection.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    }
    if (error == 0) {
      settle(connection);
      return connection;
    }
    why = std::strerror(error);
  }
  return {};
}

// The answer of rank 0, or nothing and why.
bool hear(const Descriptor& connection, Clock::time_point end, Answer& answer, std::string& why) {
  const auto bytes = std::as_writable_bytes(std::span(&answer, 1));
  for (std::size_t have = 0; have < bytes.size();) {
    pollfd polled{connection.get(), POLLIN, 0};
    if (poll(&polled, 1, left(end)) == 0) {
      why = "no answer";
      return false;
    }
    const ssize_t got = recv(connection.get(), bytes.data() + have, bytes.size() - have, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) {
      why = "the connection was closed";
      return false;
    }
    have += static_cast<std::size_t>(got);
  }
  if (answer.magic == kMagic) return true;
  why = "another program is there";
  return false;
}

// One attempt.
bool join(const Launch& launch, const Hello& hello, milliseconds limit, Clock::time_point end, Joined& joined, std::string& why) {
  Link link;
  // Both connections stand before rank 0 may answer the first.
  for (Descriptor* connection : {&link.data, &link.control}) {
    *connection = connection_to(launch, end, why);
    if (!*connection) return false;
  }
  for (const Channel channel : {Channel::data, Channel::control}) {
    Hello own = hello;
    own.channel = channel;
    send_all((channel == Channel::data ? link.data : link.control).get(), bytes_of(own));  // hear() says if it fails
  }
  const Clock::time_point answered = Clock::now() + limit + kMargin;  // rank 0 waits for others for so long
  for (const Descriptor* connection : {&link.data, &link.control}) {
    Answer answer;
    if (!hear(*connection, answered, answer, why)) return false;
    if (answer.verdict == Verdict::dismissed) throw Dismissed{answer.status};
    if (answer.verdict == Verdict::another_job) {
      throw Error(fmt::format("rank 0 of another job listens at {}:{}: set MASTER_PORT to another number for all ranks of this one",
                              launch.address, launch.port));
    }
  }
  joined.world = launch.world;
  joined.links.push_back(std::move(link));
  return true;
}

}  // namespace

Joined meet(const Launch& launch, milliseconds limit, const std::string& version) {
  if (launch.world.leads()) return Reception(launch, version).receive(limit);
  Hello hello;
  hello.rank = launch.world.rank;
  hello.size = launch.world.size;
  hello.job = launch.job;
  version.copy(hello.version.data(), hello.version.size() - 1);
  const Clock::time_point end = Clock::now() + limit;
  Joined joined;
  std::string why = "no answer";
  for (;;) {
    if (join(launch, hello, limit, end, joined, why)) return joined;
    if (left(end) == 0) {
      throw Error(fmt::format("rank {} did not find rank 0 at {}:{} within {} seconds ({}): start rank 0 there, or set MASTER_ADDR "
                              "and MASTER_PORT for all ranks",
                              launch.world.rank, launch.address, launch.port, seconds_of(limit), why),
                  Error::kRunTime);
    }
    usleep(static_cast<useconds_t>(std::chrono::microseconds(kRetry).count()));
  }
}

}  // namespace neurogen

// Ranks that find each other by TCP, among strangers, mistakes and absent ones.
#include "engine/ranks/rendezvous.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <future>
#include <optional>
#include <thread>
#include <variant>

#include "engine/ranks/meeting.h"
#include "tests/expect_error.h"

namespace neurogen {
namespace {

using std::string;
using std::chrono::milliseconds;
constexpr milliseconds kLong(20'000), kShort(1'000);

sockaddr_in address_of(int port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<std::uint16_t>(port));
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return at;
}

// A listening socket, at a free port if it is 0.
Descriptor listener(int& port) {
  Descriptor socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in at = address_of(port);
  socklen_t size = sizeof at;
  if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(socket_.get(), 9) != 0)
    ADD_FAILURE() << strerror(errno);
  getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&at), &size);
  port = ntohs(at.sin_port);
  return socket_;
}
int free_port() {
  int port = 0;
  listener(port);
  return port;
}
// Waits until somebody listens.
Descriptor stranger(int port) {
  for (;;) {
    Descriptor socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in at = address_of(port);
    if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0) return socket_;
    std::this_thread::sleep_for(milliseconds(5));
  }
}

Launch launch(int rank, int size, int port, std::uint64_t job = 7) { return {{rank, size, rank}, "test", "127.0.0.1", port, job}; }

// What came of a meeting: links, a sentence, or the status of a rank that was sent away in silence.
using Outcome = std::variant<Joined, string, int>;
std::future<Outcome> meeting_of(const Launch& launch, milliseconds limit = kLong, const string& version = "1.0") {
  return std::async(std::launch::async, [=]() -> Outcome {
    try {
      return meet(launch, limit, version);
    } catch (const Error& error) {
      return string(error.what());
    } catch (const Dismissed& dismissed) {
      return dismissed.status;
    }
  });
}
string sentence(std::future<Outcome>& future) {
  const Outcome outcome = future.get();
  const string* text = std::get_if<string>(&outcome);
  return text ? *text : "no sentence";
}
// The rank has met all others, and bytes go both ways.
void expect_met(std::vector<std::future<Outcome>>& ranks) {
  std::vector<Joined> joined;
  for (auto& rank : ranks) {
    Outcome outcome = rank.get();
    if (const string* text = std::get_if<string>(&outcome)) FAIL() << *text;
    joined.push_back(std::move(std::get<Joined>(outcome)));
  }
  for (std::size_t r = 1; r < joined.size(); ++r) {
    EXPECT_EQ(joined[r].world.rank, r);
    const Link &there = joined[0].links[r - 1], &here = joined[r].links.at(0);
    EXPECT_EQ(there.rank, r);
    for (const auto& [from, to] : {std::pair{&there.data, &here.data}, {&here.control, &there.control}}) {
      std::array bytes = {std::byte{42}, std::byte{static_cast<unsigned char>(r)}};
      EXPECT_TRUE(send_all(from->get(), bytes));
      bytes.fill({});
      EXPECT_TRUE(receive_all(to->get(), bytes));
      EXPECT_EQ(bytes[1], std::byte{static_cast<unsigned char>(r)});
    }
  }
}

TEST(Rendezvous, RanksMeetInAnyOrder) {
  const int port = free_port();
  std::vector<std::future<Outcome>> ranks(4);
  for (const int rank : {2, 0, 3, 1}) {
    ranks[static_cast<std::size_t>(rank)] = meeting_of(launch(rank, 4, port));
    std::this_thread::sleep_for(milliseconds(50));
  }
  expect_met(ranks);
}

TEST(Rendezvous, StrangersAreIgnored) {
  const int port = free_port();
  std::vector<std::future<Outcome>> ranks;
  ranks.push_back(meeting_of(launch(0, 2, port)));
  const Descriptor silent = stranger(port), half = stranger(port), web = stranger(port), noise = stranger(port);
  const auto say = [](const Descriptor& to, const string& text) { send_all(to.get(), std::as_bytes(std::span(text))); };
  say(half, "NGRANKS1 and no more");
  say(web, "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser that is lost here\r\n\r\n");
  say(noise, string(100'000, '\xff'));
  { const Descriptor gone = stranger(port); }
  std::vector<Descriptor> many;
  for (int i = 0; i < 300; ++i) many.push_back(stranger(port));
  ranks.push_back(meeting_of(launch(1, 2, port)));
  expect_met(ranks);
}

TEST(Rendezvous, RanksThatDoNotComeAreNamed) {
  const int port = free_port();
  std::future<Outcome> second = meeting_of(launch(2, 5, port)), first = meeting_of(launch(0, 5, port), kShort);
  EXPECT_EQ(sentence(first), "ranks 1, 3, 4 of 5 did not come to 127.0.0.1:" + std::to_string(port) +
                                 " within 1 seconds: start them there, or all later ones again");
  EXPECT_EQ(std::get<int>(second.get()), 2);  // in silence
}

TEST(Rendezvous, AnAbsentRankZeroIsMissed) {
  int port = free_port();
  std::future<Outcome> alone = meeting_of(launch(1, 2, port), kShort);
  EXPECT_NE(sentence(alone).find("rank 1 did not find rank 0 at 127.0.0.1:" + std::to_string(port) +
                                 " within 1 seconds (Connection refused)"),
            string::npos);
  port = 0;
  const Descriptor other = listener(port);
  std::thread program([&] {  // such as torchrun's own store
    for (;;) {
      const Descriptor guest(accept(other.get(), nullptr, nullptr));
      if (!guest) return;
      const string text = "this is another program with another protocol";
      send_all(guest.get(), std::as_bytes(std::span(text)));
    }
  });
  alone = meeting_of(launch(1, 2, port), kShort);
  EXPECT_NE(sentence(alone).find("within 1 seconds (another program is there): start rank 0 there"), string::npos);
  shutdown(other.get(), SHUT_RDWR);
  program.join();
}

TEST(Rendezvous, APortInUseIsSaid) {
  int port = 0;
  const Descriptor other = listener(port);
  std::future<Outcome> first = meeting_of(launch(0, 2, port));
  EXPECT_EQ(sentence(first),
            "port " + std::to_string(port) +
                " is in use by another program: set MASTER_PORT to another number for all ranks, which meet at the "
                "port after it");
}

TEST(Rendezvous, AnotherVersionIsRefused) {
  const int port = free_port();
  std::future<Outcome> first = meeting_of(launch(0, 2, port)), second = meeting_of(launch(1, 2, port), kLong, "1.1");
  EXPECT_EQ(sentence(first), "rank 1 has version 1.1, rank 0 has 1.0: install the same everywhere");
  EXPECT_EQ(std::get<int>(second.get()), 2);
}

TEST(Rendezvous, AnotherNumberOfRanksIsRefused) {
  const int port = free_port();
  std::future<Outcome> first = meeting_of(launch(0, 2, port)), second = meeting_of(launch(1, 3, port));
  EXPECT_EQ(sentence(first), "rank 1 is one of 3 by its launcher, rank 0 one of 2: start all ranks alike");
  EXPECT_EQ(std::get<int>(second.get()), 2);
}

TEST(Rendezvous, TwoProcessesOfOneRankAreRefused) {
  const int port = free_port();
  std::future<Outcome> one = meeting_of(launch(1, 3, port)), two = meeting_of(launch(1, 3, port)),
                       first = meeting_of(launch(0, 3, port));
  EXPECT_EQ(sentence(first), "two processes are rank 1: give every process a rank of its own");
  EXPECT_EQ(std::get<int>(one.get()), 2);
  EXPECT_EQ(std::get<int>(two.get()), 2);
}

TEST(Rendezvous, ARankThatIsStartedAgainTakesItsPlace) {
  const int port = free_port();
  std::vector<std::future<Outcome>> ranks(3);
  ranks[0] = meeting_of(launch(0, 3, port));
  {
    const Descriptor data = stranger(port);  // as rank 1 would begin
    const string hello = string(
                             "NGRANKS1\1\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0"
                             "1.0",
                             35) +
                         string(29, '\0');
    send_all(data.get(), std::as_bytes(std::span(hello)));
    std::this_thread::sleep_for(milliseconds(100));
  }
  ranks[1] = meeting_of(launch(1, 3, port));
  ranks[2] = meeting_of(launch(2, 3, port));
  expect_met(ranks);
}

TEST(Rendezvous, AnotherJobIsSentAwayAndThisOneGoesOn) {
  const int port = free_port();
  std::vector<std::future<Outcome>> ranks;
  ranks.push_back(meeting_of(launch(0, 2, port)));
  std::future<Outcome> other = meeting_of(launch(1, 2, port, 8));
  EXPECT_NE(sentence(other).find("rank 0 of another job listens at 127.0.0.1:" + std::to_string(port)), string::npos);
  ranks.push_back(meeting_of(launch(1, 2, port)));
  expect_met(ranks);
}

}  // namespace
}  // namespace neurogen

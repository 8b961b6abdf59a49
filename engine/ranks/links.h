// The sockets of a rank: one to rank 0 or, on rank 0, one to every other rank.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "engine/ranks/world.h"

namespace neurogen {

// An owned descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

struct Link {
  int rank = 0;              // whom it leads to
  Descriptor data, control;  // stream sockets: for a Meeting's calls, for its watcher
  pid_t process = 0;         // the other's, if it is a child or the parent of this one, else 0
};

// A rank and its links: on rank 0 to ranks 1, 2 and so on, elsewhere to rank 0.
struct Joined {
  World world;
  std::vector<Link> links;
  Descriptor voice;  // processes of one parent share it: the one who reads its token may say why the run ends
};

// Starts `size` - 1 children and returns in each of them, and in this process, which is rank 0. For a process with one thread whose
// standard output is flushed. Throws Error if the system starts no more processes.
Joined start_children(int size);

// Send or receive all bytes; false if the connection is closed or fails. Allocate nothing, raise no SIGPIPE.
bool send_all(int socket, std::span<const std::byte> bytes);
bool receive_all(int socket, std::span<std::byte> bytes);

}  // namespace neurogen

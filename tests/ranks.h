// Ranks for tests: processes that share memory, as those of a run do.
#pragma once
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <iostream>
#include <vector>

#include "kernels/base/shared_ranks.h"

namespace neurogen {

// Memory that this process and those that it forks share; zero at first.
class SharedMemory {
 public:
  explicit SharedMemory(Bytes bytes)
      : bytes_(bytes),
        data_(static_cast<std::byte*>(
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}
  ~SharedMemory() { munmap(data_, bytes_); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  std::byte* data() const { return data_; }
  Bytes size() const { return bytes_; }

 private:
  Bytes bytes_;
  std::byte* data_;
};

// Runs body(rank) in `size` processes; a failed check or an exception in one fails the test. Returns the bytes that each returned.
inline std::vector<std::vector<std::byte>> in_processes(int size, const std::function<std::vector<std::byte>(int)>& body) {
  constexpr Bytes kMost = Bytes{1} << 26;  // that one returns
  const SharedMemory results(static_cast<Bytes>(size) * kMost);
  std::vector<pid_t> children;
  std::cout.flush();
  for (int rank = 0; rank < size; ++rank) {
    const pid_t child = fork();
    if (child > 0) children.push_back(child);
    if (child != 0) continue;
    int status = 1;
    try {
      const std::vector<std::byte> result = body(rank);
      const Bytes bytes = result.size();
      std::byte* const to = results.data() + static_cast<Bytes>(rank) * kMost;
      if (bytes + sizeof bytes <= kMost) {
        std::memcpy(to, &bytes, sizeof bytes);
        if (bytes > 0) std::memcpy(to + sizeof bytes, result.data(), bytes);
        status = testing::Test::HasFailure() ? 1 : 0;
      }
    } catch (const std::exception& error) {
      std::cerr << "rank " << rank << ": " << error.what() << std::endl;
    }
    std::cout.flush();
    _exit(status);  // none of the parent's destructors
  }
  std::vector<std::vector<std::byte>> all;
  bool failed = false;
  for (std::size_t ended = 0; ended < children.size(); ++ended) {
    int status = 0;
    const pid_t child = waitpid(-1, &status, 0);
    if (status == 0 || failed) continue;
    failed = true;
    ADD_FAILURE() << "a rank, process " << child << ", ended with status " << status;
    for (const pid_t other : children)
      if (other != child) kill(other, SIGKILL);  // it would wait for ever
  }
  for (int rank = 0; rank < size && !failed; ++rank) {
    const std::byte* const from = results.data() + static_cast<Bytes>(rank) * kMost;
    Bytes bytes = 0;
    std::memcpy(&bytes, from, sizeof bytes);
    all.emplace_back(from + sizeof bytes, from + sizeof bytes + bytes);
  }
  return all;
}

// The same for ranks on CPUs: body(ranks) with each one's part in them. `most`: bytes that they pass on at a time.
inline std::vector<std::vector<std::byte>> on_ranks(int size, const std::function<std::vector<std::byte>(SharedRanks&)>& body,
                                                    Bytes most = 4096) {
  const SharedMemory shared(SharedRanks::bytes_needed(size, most));
  return in_processes(size, [&](int rank) {
    SharedRanks ranks(shared.data(), shared.size(), rank, size);
    return body(ranks);
  });
}

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}
template <typename T>
std::vector<T> values_of(const std::vector<std::byte>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace neurogen

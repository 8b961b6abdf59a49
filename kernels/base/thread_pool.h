// Threads created once, before anything is sealed, that share out independent items.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace neurogen {

// Number of cores that this process may run on, at least 1.
int cores_of_this_process();

// Calls body(part) for every part in [0, parts), each on its own thread; parts for which the system starts no thread run on the
// caller's. For work before a run is sealed.
void on_threads(std::int64_t parts, const std::function<void(std::int64_t)>& body);

class ThreadPool {
 public:
  // At least 1 thread, including the caller. Each calls prepare() once, before the constructor returns.
  explicit ThreadPool(
      int threads, void (*prepare)() = [] {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls body(item, thread) for every item in [0, items), thread in [0, threads()), and returns when all are done. Any thread may
  // take any item, so a result may depend only on the item. Allocates nothing.
  template <typename Body>
  void parallel(std::int64_t items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        items, [](void* context, std::int64_t item, int thread) { (*static_cast<Plain*>(context))(item, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, std::int64_t item, int thread);
  void run(std::int64_t items, Call call, void* context);

  struct Pool;
  std::unique_ptr<Pool> pool_;
  int threads_;
};

}  // namespace neurogen

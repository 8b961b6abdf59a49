#include "kernels/base/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "arena/allocations.h"
#include "arena/error.h"

namespace neurogen {

int cores_of_this_process() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
  const unsigned all = std::thread::hardware_concurrency();  // fallback: more cores than a cpu_set_t holds
  return all > 0 ? static_cast<int>(all) : 1;
}

void on_threads(std::int64_t parts, const std::function<void(std::int64_t)>& body) {
  std::vector<std::jthread> others;  // joined at scope exit
  std::int64_t next = 1;
  try {
    for (; next < parts; ++next) others.emplace_back(body, next);
  } catch (const std::system_error&) {  // no more threads available
  }
  body(0);
  for (; next < parts; ++next) body(next);
}

namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Operations follow each other within microseconds during a step, so a thread spins for some hundred microseconds before it sleeps;
// waking up takes as long. A pause takes 15 to 45 ns.
constexpr int kSpins = 10'000;

template <typename Done>
bool spin_until(Done&& done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    pause();
  }
  return done();
}

}  // namespace

// The caller publishes a job and takes items like any worker. It waits for items, not for threads, so a preempted worker delays
// only the item that it has begun.
//
// `claim` holds the job's number in its upper half and the number of unclaimed items in its lower half. An exchange succeeds only
// while the thread's job is current and has unclaimed items, hence only while the job's fields are valid.
struct ThreadPool::Pool {
  static constexpr std::uint64_t kItemMask = 0xffffffffu;

  alignas(64) std::atomic<std::uint32_t> job{0};
  std::atomic<bool> stop{false};
  std::atomic<Call> call{nullptr};
  std::atomic<void*> context{nullptr};
  alignas(64) std::atomic<std::uint64_t> claim{0};
  alignas(64) std::atomic<std::uint32_t> unfinished{0};
  std::atomic<int> ready{0};
  std::atomic<bool> out_of_memory{false};  // exceptions must not leave a thread
  std::vector<std::thread> workers;

  ~Pool() {
    stop = true;
    job.fetch_add(1);
    job.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  void take_items(int thread) {
    std::uint64_t now = claim.load(std::memory_order_acquire);
    while ((now & kItemMask) != 0) {
      const Call body = call.load(std::memory_order_relaxed);
      void* const argument = context.load(std::memory_order_relaxed);
      if (!claim.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      body(argument, static_cast<std::int64_t>(now & kItemMask) - 1, thread);
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
      now = claim.load(std::memory_order_acquire);
    }
  }

  void work(int thread, void (*prepare)()) {
    try {
      prepare();
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
    ready.fetch_add(1, std::memory_order_release);
    for (std::uint32_t seen = 0;;) {
      if (!spin_until([&] { return job.load(std::memory_order_acquire) != seen; })) job.wait(seen, std::memory_order_acquire);
      seen = job.load(std::memory_order_acquire);
      if (stop) return;
      take_items(thread);
    }
  }

  void run(std::uint32_t items, Call body, void* argument) {
    call.store(body, std::memory_order_relaxed);
    context.store(argument, std::memory_order_relaxed);
    unfinished.store(items, std::memory_order_relaxed);
    const std::uint32_t number = job.load(std::memory_order_relaxed) + 1;
    claim.store(std::uint64_t{number} << 32 | items, std::memory_order_release);
    job.store(number, std::memory_order_release);
    job.notify_all();
    take_items(0);
    const auto done = [this] { return unfinished.load(std::memory_order_acquire) == 0; };
    while (!spin_until(done))
      if (const std::uint32_t left = unfinished.load(std::memory_order_acquire)) unfinished.wait(left, std::memory_order_acquire);
  }
};

ThreadPool::ThreadPool(int threads, void (*prepare)()) : pool_(std::make_unique<Pool>()), threads_(threads) {
  prepare();
  try {
    for (int thread = 1; thread < threads_; ++thread)
      pool_->workers.emplace_back([this, thread, prepare, account = allocation_account] {
        const ChargeAllocations charge(account);
        pool_->work(thread, prepare);
      });
  } catch (const std::system_error& error) {
    throw Error({"the system cannot start " + std::to_string(threads_) + " threads (" + error.code().message() +
                     "): raise the limit (ulimit -u), or on a CPU use fewer ",
                 Field("threads")},
                Error::kRunTime);
  }
  while (pool_->ready.load(std::memory_order_acquire) + 1 < threads_) std::this_thread::yield();
  if (pool_->out_of_memory) throw std::bad_alloc();
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::run(std::int64_t items, Call call, void* context) {
  if (items > std::int64_t{Pool::kItemMask}) throw Error("an operation has more than 2^32 - 1 parts: make the batch smaller");
  if (threads_ == 1 || items <= 1) {
    for (std::int64_t item = 0; item < items; ++item) call(context, item, 0);
    return;
  }
  pool_->run(static_cast<std::uint32_t>(items), call, context);
}

}  // namespace neurogen

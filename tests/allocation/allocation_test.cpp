// Nothing is allocated between the seal and the end of training, with evaluation, logging and saving: by the engine's own counter,
// by a preloaded one, and by the system calls that strace sees. Each of the three is shown to detect allocations.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>

#include "arena/allocations.h"
#include "engine/run/process.h"
#include "tests/tools/run_program.h"

namespace neurogen {
HeapCounters counted_heap();  // tools/neurogen-engine/heap.cpp, also this test's allocator

namespace {

using std::string;

class Allocation : public testing::Test {
 protected:
  Allocation() {
    std::vector<std::uint16_t> ids(3000);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint16_t>(i * i % 7 * 40 + i % 11);
    directory_.file("brain.json", kTestBrain);
    directory_.file("text.bin", {reinterpret_cast<const char*>(ids.data()), ids.size() * 2});
  }
  // A text and a tokenizer of 300 pieces, the size of the brain's vocabulary.
  void make_tokenizer() const {
    string text;
    for (int i = 0; i < 200; ++i) text += "line " + std::to_string(i) + " of the text, \xE2\x82\xAC" + std::to_string(i * i) + "\n";
    directory_.file("text.txt", text);
    ASSERT_EQ(run_program_in(directory_, "corpus train-tokenizer text.txt --vocabulary 300 --out t.model").status, 0);
  }
  // A training run with everything on; `before` is put in front of the program's name.
  ProgramResult train(int steps, const string& before = "", const string& program = programs_folder() + "/neurogen-engine",
                      const string& options = "") const {
    if (read_file(directory_.path("t.model")).empty()) make_tokenizer();
    return run_program_in(
        directory_,
        "corpus --version && rm -rf saved log.jsonl && " + before + " " + program +
            " --arch brain.json --data text.bin --valid text.bin --tokenizer t.model --eval-every 7 --batch 3 --seq 20 --threads 2 "
            "--checkpoint-dir saved --save-every 3 --keep 2 --keep-best "
            "--progress plain --log log.jsonl --export w.safetensors --steps " +
            std::to_string(steps) + options);
  }
  // host_allocations of every step, in order.
  std::vector<int> logged() const {
    std::vector<int> counts;
    std::istringstream log(read_file(directory_.path("log.jsonl")));
    for (string line; std::getline(log, line);) {
      const auto event = nlohmann::json::parse(line);
      if (event["event"] == "step") counts.push_back(event["host_allocations"]);
    }
    return counts;
  }
  int checkpoints(const char* event) const {
    int count = 0;
    std::istringstream log(read_file(directory_.path("log.jsonl")));
    for (string line; std::getline(log, line);) count += nlohmann::json::parse(line)["event"] == event;
    return count;
  }
  // System calls for pages or threads while the log grew from its first line to its last, and before.
  std::pair<int, int> traced() const {
    int during = 0, before = 0;
    bool training = false, ended = false;
    std::istringstream trace(read_file(directory_.path("trace")));
    for (string line; std::getline(trace, line);) {
      if (line.find("event\\\":\\\"start") != string::npos) training = true;
      if (line.find("event\\\":\\\"summary") != string::npos) ended = true;
      for (const char* call : {" mmap(", " mremap(", " brk(", " clone(", " clone3("}) {
        if (line.find(call) != string::npos && !ended) ++(training ? during : before);
      }
    }
    EXPECT_TRUE(training && ended);
    return {during, before};
  }
  static constexpr const char* kTrace = "strace -f -e trace=mmap,mremap,brk,clone,clone3,writev -s 60 -o trace";
  static bool has_strace() { return std::system("strace -o /dev/null true 2>/dev/null") == 0; }

  TemporaryDirectory directory_;
};

TEST(Counter, SeesEveryWayToAllocate) {
  AllocationAccount ours{0};
  const ChargeAllocations charge(&ours);
  const auto seen = [](auto&& allocate) {
    const auto before = counted_heap().allocations;
    allocate();
    return counted_heap().allocations - before;
  };
  void* volatile p = nullptr;
  const auto keep = [&](void* block) { return p = block, block; };  // prevents pairs of calls from being optimised away
  EXPECT_EQ(seen([] {}), 0u);
  EXPECT_EQ(seen([&] { p = std::malloc(5); }), 1u);
  EXPECT_EQ(seen([&] { p = std::realloc(p, 5000); }), 1u);
  EXPECT_EQ(seen([&] { p = reallocarray(p, 100, 100); }), 1u);
  EXPECT_EQ(seen([&] { std::free(p); }), 0u);
  EXPECT_EQ(seen([&] { std::free(keep(std::calloc(5, 5))); }), 1u);
  EXPECT_EQ(seen([&] { std::free(keep(std::aligned_alloc(64, 64))); }), 1u);
  EXPECT_EQ(seen([&] { std::free(keep(memalign(64, 64))); }), 1u);
  EXPECT_EQ(seen([&] { std::free(keep(valloc(64))); }), 1u);
  EXPECT_EQ(seen([&] {
              void* block = nullptr;
              EXPECT_EQ(posix_memalign(&block, 64, 64), 0);
              std::free(block);
            }),
            1u);
  EXPECT_EQ(seen([&] { ::operator delete(keep(::operator new(5))); }), 1u);
  EXPECT_EQ(seen([&] { ::operator delete[](keep(::operator new[](5))); }), 1u);
  EXPECT_EQ(seen([&] { ::operator delete(keep(::operator new(5, std::nothrow))); }), 1u);
  EXPECT_EQ(seen([&] { ::operator delete(keep(::operator new(64, std::align_val_t(64))), std::align_val_t(64)); }), 1u);
  EXPECT_GE(seen([&] { std::free(keep(strdup("by the C library itself"))); }), 1u);
  EXPECT_GE(seen([&] { std::fclose(std::fopen("/dev/null", "r")); }), 1u);
}

// Driver allocations are recognised by the caller's address, here in a library with the driver's name, or by a thread without
// account.
TEST(Counter, CountsTheDriversApart) {
  AllocationAccount ours{0};
  const ChargeAllocations charge(&ours);
  void* const library = dlopen(NEUROGEN_DRIVER_STUB, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto allocate = reinterpret_cast<void* (*)(std::size_t)>(dlsym(library, "allocate"));
  const HeapCounters before = counted_heap();
  for (int i = 0; i < 3; ++i) std::free(allocate(100));
  void* volatile own = std::malloc(5);
  const HeapCounters after = counted_heap();
  {
    const ChargeAllocations nobody(nullptr);
    // Calls through a pointer: the compiler knows that malloc reads no variable of ours.
    std::free(reinterpret_cast<void* (*)(std::size_t)>(dlsym(RTLD_DEFAULT, "malloc"))(5));
  }
  EXPECT_EQ(counted_heap().driver_allocations - after.driver_allocations, 1u);
  EXPECT_EQ(after.driver_allocations - before.driver_allocations, 3u);
  EXPECT_EQ(after.allocations - before.allocations, 1u);
  EXPECT_EQ(after.live_bytes - before.live_bytes, malloc_usable_size(own));
  std::free(own);
  dlclose(library);
}

// Like tests/tools/heap_test.cpp, which ends at the cap.
TEST_F(Allocation, HasNoCapUnderComputeSanitizer) {
  {  // in pieces: this program's heap has the cap too
    const string begin = R"({"__metadata__": {"note": ")", end = R"("}})", piece(1'000'000, 'x');
    const std::uint64_t pieces = 90, size = begin.size() + pieces * piece.size() + end.size();
    std::ofstream file(directory_.path("huge.safetensors"), std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof size) << begin;
    for (std::uint64_t i = 0; i < pieces; ++i) file << piece;
    file << end;
  }
  for (const bool watched : {false, true}) {
    const ProgramResult result =
        run_program_in(directory_, string("corpus --version && ") + (watched ? "LD_PRELOAD=" NEUROGEN_SANITIZER_STUB " " : "") +
                                       programs_folder() + "/neurogen-engine eval --init huge.safetensors --data huge.safetensors");
    EXPECT_NE(result.status, 0);
    EXPECT_EQ(result.err.find("has reached its cap") == string::npos, watched) << result.err;
  }
}

TEST_F(Allocation, TheEngineCountsNone) {
  const ProgramResult result = train(30);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(logged(), std::vector<int>(30, 0));
  EXPECT_NE(result.out.find("allocations since the seal: 0\n"), string::npos) << result.out;
  EXPECT_EQ(checkpoints("checkpoint"), 10);
}

TEST_F(Allocation, StepsInMicroBatchesCountNoneEither) {
  const ProgramResult result = train(30, "", programs_folder() + "/neurogen-engine", " --accumulate 3");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(logged(), std::vector<int>(30, 0));
  EXPECT_NE(result.out.find("allocations since the seal: 0\n"), string::npos) << result.out;
}

// With a thread that saves during training.
TEST_F(Allocation, SavesBesideTrainingCountNoneEither) {
  const ProgramResult result = train(30, has_strace() ? kTrace : "", programs_folder() + "/neurogen-engine", " --snapshot");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(logged(), std::vector<int>(30, 0));
  EXPECT_NE(result.out.find("allocations since the seal: 0\n"), string::npos) << result.out;
  EXPECT_EQ(checkpoints("checkpoint"), 10);
  EXPECT_EQ(has_strace() ? traced().first : 0, 0);
}

// The log fits under the limit on a file's size; a checkpoint does not.
TEST_F(Allocation, SavesThatFailCountNoneEither) {
  const ProgramResult result = train(30, "ulimit -f 400;");
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_EQ(logged(), std::vector<int>(30, 0));
  EXPECT_NE(result.out.find("allocations since the seal: 0\n"), string::npos) << result.out;
  EXPECT_EQ(checkpoints("checkpoint_failed"), 10);
}

TEST_F(Allocation, AStepThatAllocatesIsCounted) {
  ASSERT_EQ(train(8, "", NEUROGEN_FAULTY).status, 0);
  EXPECT_EQ(logged(), (std::vector<int>{0, 0, 1, 1, 1, 1, 1, 1}));  // in the third step
}

TEST_F(Allocation, ALongRunAllocatesAsOftenAsAShortOne) {
  const auto totals = [&](int steps, const string& program = programs_folder() + "/neurogen-engine") {
    const ProgramResult result = train(steps, "env LD_PRELOAD=" NEUROGEN_COUNTER " NEUROGEN_COUNTS=counts", program);
    EXPECT_EQ(result.status, 0) << result.err;
    return read_file(directory_.path("counts"));  // by operator new, by malloc, calls for pages
  };
  const string few = totals(20), many = totals(220);
  std::printf("20 steps: %s220 steps: %s", few.c_str(), many.c_str());
  EXPECT_EQ(few, many);
  EXPECT_GT(std::stoul(few), 1000u);
  EXPECT_EQ(std::stoul(totals(20, NEUROGEN_FAULTY)), std::stoul(few) + 1);
}

TEST_F(Allocation, SpeakingAllocatesNothingATokenHoweverItIsDrawn) {
  ASSERT_EQ(train(3).status, 0);
  for (const char* how :
       {"", "--temperature 0", "--top-k 20 --top-p 0.9 --min-p 0.01 --repetition-penalty 1.2 --stop zzzz", "--logprobs"}) {
    const auto speak = [&](int tokens) {
      const ProgramResult result = run_program_in(
          directory_, "corpus --version && env LD_PRELOAD=" NEUROGEN_COUNTER " NEUROGEN_COUNTS=counts " + programs_folder() +
                          "/neurogen-engine generate --init w.safetensors --tokenizer t.model --prompt line " + how +
                          " --max-tokens " + std::to_string(tokens));
      EXPECT_EQ(result.status, 0) << result.err;
      EXPECT_NE(result.err.find("made " + std::to_string(tokens) + " in"), string::npos) << result.err;
      EXPECT_NE(result.err.find("allocations meanwhile: 0\n"), string::npos) << result.err;
      return read_file(directory_.path("counts"));
    };
    EXPECT_EQ(speak(10), speak(300)) << how;
  }
}

TEST_F(Allocation, NoPagesAreAskedForAndNoThreadsMade) {
  if (!has_strace()) GTEST_SKIP() << "strace is not installed or not allowed here";
  ASSERT_EQ(train(30, kTrace).status, 0);
  const auto [during, before] = traced();
  EXPECT_EQ(during, 0);
  EXPECT_GT(before, 20);
  ASSERT_EQ(train(8, kTrace, NEUROGEN_FAULTY).status, 0);
  EXPECT_GE(traced().first, 1);  // too large for the current heap
}

}  // namespace
}  // namespace neurogen

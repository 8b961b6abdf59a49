#include "arena/plan.h"

#include <gtest/gtest.h>

#include <random>

#include "arena/error.h"

namespace neurogen {
namespace {

// Checks a plan's promises, pair by pair and operation by operation; shares no code with the planner.
Bytes rounded(const Buffer& buffer) { return (buffer.bytes + 255) / 256 * 256; }

void expect_sound(const Plan& plan, bool overlay) {
  for (const ArenaKind arena : {ArenaKind::device, ArenaKind::host}) {
    const ArenaPlan& part = arena == ArenaKind::device ? plan.device : plan.host;
    std::vector<const Buffer*> mine;
    for (const Buffer& buffer : plan.buffers)
      if (buffer.arena == arena) mine.push_back(&buffer);

    Bytes persistent = 0, derived = 0, all = 0, top = 0;
    for (const Buffer* a : mine) {
      ASSERT_EQ(a->offset % 256, 0u) << a->name;
      if (a->kind == BufferKind::persistent) {
        ASSERT_EQ(a->offset, persistent) << a->name;  // in declared order, without gaps
        persistent += rounded(*a);
      }
      derived += a->kind == BufferKind::derived ? rounded(*a) : 0;
      all += rounded(*a);
      top = std::max(top, a->offset + rounded(*a));
      for (const Buffer* b : mine) {
        if (a == b || a->bytes == 0 || b->bytes == 0) continue;
        const bool apart_in_time = a->last_op < b->first_op || b->last_op < a->first_op;
        const bool apart_in_space = a->offset + rounded(*a) <= b->offset || b->offset + rounded(*b) <= a->offset;
        ASSERT_TRUE(apart_in_space || (overlay && apart_in_time)) << a->name << " and " << b->name;
      }
    }
    EXPECT_EQ(part.persistent, persistent);
    EXPECT_EQ(part.derived, derived);
    for (const Buffer* a : mine) {
      if (a->bytes == 0) continue;
      const Bytes begin = a->kind == BufferKind::persistent ? 0
                          : a->kind == BufferKind::derived  ? persistent
                                                            : persistent + derived;
      const Bytes end = a->kind == BufferKind::persistent ? persistent
                        : a->kind == BufferKind::derived  ? persistent + derived
                                                          : top;
      ASSERT_TRUE(a->offset >= begin && a->offset + rounded(*a) <= end) << a->name;
    }
    EXPECT_EQ(part.bytes, overlay ? top : all);

    Bytes bound = 0;
    std::int64_t peak = 0;
    for (std::int64_t op = 0; op < static_cast<std::int64_t>(plan.operations.size()); ++op) {
      Bytes sum = 0;
      for (const Buffer* a : mine) sum += a->first_op <= op && op <= a->last_op ? rounded(*a) : 0;
      if (sum > bound) {
        bound = sum;
        peak = op;
      }
    }
    EXPECT_EQ(part.lower_bound, bound);
    EXPECT_EQ(part.peak_op, peak);
    EXPECT_GE(part.bytes, bound);
  }
  EXPECT_EQ(plan.total(), plan.device.bytes + plan.host.bytes + plan.overhead);
}

PlanRequest random_request(std::mt19937_64& random, std::size_t largest = 60) {
  const auto pick = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n)); };
  PlanRequest request;
  const std::int64_t operations = 1 + pick(40);
  for (std::int64_t i = 0; i < operations; ++i) request.operations.push_back("op " + std::to_string(i));
  const std::int64_t count = pick(static_cast<std::int64_t>(largest));
  for (std::int64_t i = 0; i < count; ++i) {
    Buffer buffer{.name = "buffer " + std::to_string(i)};
    buffer.dtype = static_cast<DType>(pick(8));
    buffer.shape = {pick(12) == 0 ? 0 : 1 + pick(1ll << pick(16)), 1 + pick(9)};
    buffer.arena = pick(4) == 0 ? ArenaKind::host : ArenaKind::device;
    buffer.kind = pick(3) != 0 ? BufferKind::transient : static_cast<BufferKind>(pick(2));
    buffer.first_op = pick(operations);
    buffer.last_op = buffer.first_op + (pick(3) == 0 ? pick(operations - buffer.first_op) : 0);
    request.buffers.push_back(buffer);
  }
  request.overhead = static_cast<Bytes>(pick(1000));
  return request;
}

TEST(Plan, NothingThatIsAliveTogetherOverlaps) {
  std::mt19937_64 random(1);
  Bytes planned = 0, bound = 0;
  for (int i = 0; i < 3000 && !HasFatalFailure(); ++i) {
    const PlanRequest request = random_request(random);
    SCOPED_TRACE("graph " + std::to_string(i));
    const Plan plan = make_plan(request);
    expect_sound(plan, true);
    planned += plan.total();
    bound += plan.lower_bound();
    if (i % 3 != 0) continue;
    PlanRequest apart = request;
    apart.overlay = false;
    const Plan without = make_plan(apart);
    expect_sound(without, false);
    EXPECT_EQ(without.lower_bound(), plan.lower_bound());
  }
  EXPECT_LE(static_cast<double>(planned), 1.01 * static_cast<double>(bound));
}

Buffer buffer(const char* name, Bytes bytes, BufferKind kind, std::int64_t first = 0, std::int64_t last = 0) {
  return {.name = name,
          .dtype = DType::u8,
          .shape = {static_cast<std::int64_t>(bytes)},
          .kind = kind,
          .first_op = first,
          .last_op = last};
}

// The copy of persistent buffers counts if the budget is ordinary memory.
TEST(Plan, ASnapshotTakesWhatIsPersistent) {
  PlanRequest request{.buffers = {buffer("weights", 1000, BufferKind::persistent), buffer("derived", 600, BufferKind::derived),
                                  buffer("passing", 300, BufferKind::transient)},
                      .operations = {"step"},
                      .overhead = 50};
  const Plan without = make_plan(request);
  EXPECT_EQ(without.snapshot_bytes(), 0u);
  request.snapshot = Snapshot::beside_budget;
  const Plan beside = make_plan(request);
  EXPECT_EQ(beside.snapshot_bytes(), 1024u);
  EXPECT_EQ(beside.total(), without.total());
  EXPECT_EQ(beside.lower_bound(), lower_bound_of(request));
  request.snapshot = Snapshot::in_budget;
  const Plan inside = make_plan(request);
  EXPECT_EQ(inside.snapshot_bytes(), 1024u);
  EXPECT_EQ(inside.total(), without.total() + 1024);
  EXPECT_EQ(inside.lower_bound(), lower_bound_of(request));
}

TEST(Plan, LargeGraphsToo) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 20 && !HasFatalFailure(); ++i) expect_sound(make_plan(random_request(random, 800)), true);
}

TEST(Plan, PersistentOffsetsDoNotDependOnTheRest) {
  std::mt19937_64 random(3);
  const PlanRequest request = random_request(random, 80);
  PlanRequest bigger = request;
  for (Buffer& b : bigger.buffers)
    if (b.kind != BufferKind::persistent) b.shape[0] = 3 * b.shape[0] + 1;
  bigger.buffers.insert(bigger.buffers.begin(), buffer("more", 999, BufferKind::transient));
  const Plan small = make_plan(request), large = make_plan(bigger);
  for (std::size_t i = 0; i < small.buffers.size(); ++i) {
    if (small.buffers[i].kind == BufferKind::persistent) {
      EXPECT_EQ(small.buffers[i].offset, large.buffers[i + 1].offset);
    }
  }
}

TEST(Plan, FitsItsTotalAndNotAByteLess) {
  PlanRequest request{.buffers = {buffer("weight", 1000, BufferKind::persistent), buffer("x", 300, BufferKind::transient, 0, 1)},
                      .operations = {"a", "b"},
                      .overhead = 77};
  EXPECT_EQ(make_plan(request).total(), 1024u + 512 + 77);
  request.budget = 1024 + 512 + 77;
  EXPECT_TRUE(make_plan(request).fits());
  --request.budget;
  EXPECT_FALSE(make_plan(request).fits());
}

TEST(Plan, AliveListsTheLargestFirst) {
  PlanRequest request{.buffers = {buffer("small", 10, BufferKind::persistent), buffer("early", 500, BufferKind::transient, 0, 1),
                                  buffer("late", 900, BufferKind::transient, 2, 2), buffer("big", 700, BufferKind::derived)},
                      .operations = {"a", "b", "c"}};
  const Plan plan = make_plan(request);
  EXPECT_EQ(plan.alive(ArenaKind::device, 1), (std::vector<std::size_t>{3, 1, 0}));
  EXPECT_EQ(plan.alive(ArenaKind::device, 2), (std::vector<std::size_t>{2, 3, 0}));
  EXPECT_TRUE(plan.alive(ArenaKind::host, 0).empty());
}

TEST(Plan, RefusesLifetimesOutsideTheOperations) {
  for (const auto& [first, last] : {std::pair{-1, 0}, {1, 0}, {0, 2}, {2, 2}}) {
    PlanRequest request{.buffers = {buffer("x", 1, BufferKind::transient, first, last)}, .operations = {"a", "b"}};
    EXPECT_THROW(make_plan(request), Error) << first << " " << last;
  }
  EXPECT_THROW(make_plan({.buffers = {buffer("x", 1, BufferKind::transient)}, .operations = {}}), Error);
  EXPECT_EQ(make_plan({.buffers = {buffer("x", 1, BufferKind::persistent)}, .operations = {}}).total(), 256u);
}

TEST(Plan, SizesGoBeyondFourGigabytesAndStopAtSixtyFourBits) {
  const auto huge = [](std::vector<std::int64_t> thousandths, BufferKind kind, bool overlay) {
    PlanRequest request{.operations = {"a", "b", "c"}, .overlay = overlay};
    for (std::size_t i = 0; i < thousandths.size(); ++i) {
      request.buffers.push_back({.name = "huge",
                                 .dtype = DType::u8,
                                 .shape = {thousandths[i], 1ll << 54},
                                 .kind = kind,
                                 .first_op = static_cast<std::int64_t>(i),
                                 .last_op = static_cast<std::int64_t>(i)});
    }
    return make_plan(request);
  };
  EXPECT_EQ(huge({512, 511}, BufferKind::persistent, true).total(), 1023ull << 54);
  EXPECT_THROW(huge({512, 512}, BufferKind::persistent, true), Error);
  EXPECT_EQ(huge({512, 512, 900}, BufferKind::transient, true).total(), 900ull << 54);
  EXPECT_THROW(huge({512, 512, 900}, BufferKind::transient, false), Error);

  PlanRequest rounding{.buffers = {{.name = "x", .dtype = DType::u8, .shape = {5, 3689348814741910323}}}, .operations = {"a"}};
  EXPECT_THROW(make_plan(rounding), Error);  // 2^64 - 1 bytes: exact, but not rounded up
  PlanRequest overhead{.buffers = {buffer("x", 1, BufferKind::transient)}, .operations = {"a"}, .overhead = UINT64_MAX - 100};
  EXPECT_THROW(make_plan(overhead), Error);
}

}  // namespace
}  // namespace neurogen

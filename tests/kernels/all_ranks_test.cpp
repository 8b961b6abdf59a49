#include "kernels/all_ranks.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "kernels/base/half.h"
#include "tests/expect_error.h"
#include "tests/kernels/tensor.h"
#include "tests/ranks.h"

namespace neurogen {
namespace {

constexpr std::int64_t kLengths[] = {1, 15, 16, 1000, 5000};  // shorter and longer than a piece of 4096 bytes
template <typename T>
Tensor<T> of_rank(int rank, std::int64_t n) {
  return Tensor<T>::noise({n}, static_cast<unsigned>(100 * rank + n));
}

class AllRanks : public testing::TestWithParam<int> {
 protected:
  int root(std::size_t tensor) const { return static_cast<int>(tensor) % GetParam(); }
  // Sums tensors of every length at once on all ranks, and returns the results, which are equal bits. They are those of sums on one
  // rank each, which are then passed on.
  template <typename T, typename Make>
  std::vector<T> sums(DType type, Make&& make) const {
    const auto results = on_ranks(GetParam(), [&](SharedRanks& ranks) {
      CpuDevice device(1);
      device.use_ranks(ranks);
      EXPECT_EQ(rank_of(device), ranks.rank());
      std::vector<std::vector<T>> tensors, reduced;
      AllRanksSum sum{{}, 3};
      AllRanksReduce reduce{{}, 4};
      AllRanksBroadcast broadcast{{}, 5};
      for (const std::int64_t n : kLengths) tensors.push_back(make(ranks.rank(), n));
      reduced = tensors;
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        const auto view = [&](std::vector<T>& x) { return make_view(x.data(), type, {kLengths[i]}); };
        sum.tensors.add(view(tensors[i]));
        reduce.tensors.add({view(reduced[i]), root(i)});
        broadcast.tensors.add({view(reduced[i]), root(i)});
      }
      all_ranks_sum(device, sum);
      all_ranks_wait(device, 3);
      all_ranks_reduce(device, reduce);
      all_ranks_wait(device, 4);
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        const std::vector<T>& want = ranks.rank() == root(i) ? tensors[i] : make(ranks.rank(), kLengths[i]);
        EXPECT_EQ(bytes_of(reduced[i]), bytes_of(want)) << "tensor " << i << " on rank " << ranks.rank();
      }
      all_ranks_broadcast(device, broadcast);
      all_ranks_wait(device, 5);
      for (std::size_t i = 0; i < tensors.size(); ++i) EXPECT_EQ(bytes_of(reduced[i]), bytes_of(tensors[i])) << "tensor " << i;
      std::vector<T> all;
      for (const std::vector<T>& x : tensors) all.insert(all.end(), x.begin(), x.end());
      return bytes_of(all);
    });
    for (const auto& result : results) EXPECT_EQ(result, results[0]);
    return results.empty() ? std::vector<T>{} : values_of<T>(results[0]);
  }
  // The same in float64, of the values as `rounded` says.
  template <typename Rounded>
  std::vector<double> expected(Rounded&& rounded) const {
    std::vector<double> all;
    for (const std::int64_t n : kLengths) {
      std::vector<double> total(static_cast<std::size_t>(n), 0);
      for (int rank = 0; rank < GetParam(); ++rank) {
        const Tensor<float> x = of_rank<float>(rank, n);
        for (std::int64_t i = 0; i < n; ++i) total[static_cast<std::size_t>(i)] += rounded(x[i]);
      }
      all.insert(all.end(), total.begin(), total.end());
    }
    return all;
  }
};

TEST_P(AllRanks, SumInFullPrecision) {
  const std::vector<float> f32 = sums<float>(DType::f32, [](int rank, std::int64_t n) { return of_rank<float>(rank, n).data; });
  const std::vector<double> f64 = sums<double>(DType::f64, [](int rank, std::int64_t n) { return of_rank<double>(rank, n).data; }),
                            want = expected([](float x) { return static_cast<double>(x); });
  ASSERT_EQ(f32.size(), want.size());
  ASSERT_EQ(f64.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(f64[i], want[i], 1e-14);
    EXPECT_NEAR(static_cast<double>(f32[i]), want[i], 1e-6);
  }
}

template <typename Half>
Half narrowed(float x) {
  Half half;
  narrow(x, half);
  return half;
}

TEST_P(AllRanks, SumIn16Bits) {
  const auto check = [&](auto zero, DType type, double relative) {
    using Half = decltype(zero);
    const auto make = [](int rank, std::int64_t n) {
      std::vector<Half> halves;
      for (const float x : of_rank<float>(rank, n).data) halves.push_back(narrowed<Half>(x));
      return halves;
    };
    const std::vector<Half> got = sums<Half>(type, make);
    const std::vector<double> want = expected([](float x) { return static_cast<double>(widen(narrowed<Half>(x))); });
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(static_cast<double>(widen(got[i])), want[i], relative * std::abs(want[i]) + 1e-7) << name_of(type);
  };
  check(Bf16{}, DType::bf16, 0x1p-8);
  check(F16{}, DType::f16, 0x1p-11);
}

TEST_P(AllRanks, TakeTheLargestNumber) {
  const auto results = on_ranks(GetParam(), [](SharedRanks& ranks) {
    CpuDevice device(1);
    device.use_ranks(ranks);
    Tensor<std::int32_t> x({3}, ranks.rank());
    x[1] = -x[1], x[2] = ranks.rank() == 0 ? 7 : 0;
    all_ranks_maximum(device, {{x.view()}});
    return bytes_of(x.data);
  });
  for (const auto& result : results) EXPECT_EQ(values_of<std::int32_t>(result), (std::vector<std::int32_t>{GetParam() - 1, 0, 7}));
}

TEST_P(AllRanks, GatherInTheirOrder) {
  const std::int64_t size = GetParam();
  const auto results = on_ranks(GetParam(), [&](SharedRanks& ranks) {
    CpuDevice device(1);
    device.use_ranks(ranks);
    Tensor<std::int32_t> ids({5}, ranks.rank()), all_ids = Tensor<std::int32_t>::poisoned({5 * size});
    Tensor<float> rows = of_rank<float>(ranks.rank(), 3000), all_rows = Tensor<float>::poisoned({3000 * size});
    all_ranks_gather(device, {{{ids.view(), all_ids.view()}, {rows.view(), all_rows.view()}}});
    for (std::int64_t i = 0; i < 5 * size; ++i) EXPECT_EQ(all_ids[i], i / 5);
    for (int rank = 0; rank < size; ++rank) {
      const Tensor<float> expected = of_rank<float>(rank, 3000);
      EXPECT_EQ(std::memcmp(&all_rows[3000 * rank], expected.data.data(), 12'000), 0);
    }
    return std::vector<std::byte>{};
  });
  EXPECT_EQ(results.size(), static_cast<std::size_t>(size));
}

TEST_P(AllRanks, PassOnEveryType) {
  for (const DType type : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8}) {
    const int from = GetParam() - 1;
    const auto results = on_ranks(GetParam(), [&](SharedRanks& ranks) {
      CpuDevice device(1);
      device.use_ranks(ranks);
      std::vector<std::uint8_t> bytes(1001 * size_of(type));
      for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::uint8_t>(7 * i + static_cast<std::size_t>(ranks.rank()));
      std::vector<std::uint8_t> want = bytes;
      for (std::uint8_t& one : want) one = static_cast<std::uint8_t>(one + from - ranks.rank());
      all_ranks_broadcast(device, {{{make_view(bytes.data(), type, {1001}), from}}});
      EXPECT_EQ(bytes, want) << name_of(type);
      return bytes_of(bytes);
    });
    EXPECT_EQ(results.size(), static_cast<std::size_t>(GetParam()));
  }
}

TEST_P(AllRanks, WaitForTheSlowest) {
  const SharedMemory seen(64);
  const auto& counter = *reinterpret_cast<std::atomic<int>*>(seen.data());
  on_ranks(GetParam(), [&](SharedRanks& ranks) {
    for (int round = 1; round <= 200; ++round) {
      if (round % 50 == 0 && ranks.rank() == ranks.size() - 1) usleep(2000);
      reinterpret_cast<std::atomic<int>*>(seen.data())->fetch_add(1);
      ranks.barrier();
      EXPECT_EQ(counter.load(), round * ranks.size());
      ranks.barrier();
    }
    return std::vector<std::byte>{};
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, AllRanks, testing::Values(1, 2, 3));

TEST(AllRanksOf, RefuseWhatTheyCannotPassOn) {
  std::vector<std::byte> memory(SharedRanks::bytes_needed(1, 64) + 64);
  std::byte* const aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  CpuDevice device(1);
  Tensor<float> x({4}, 1), y({8}, 1);
  EXPECT_ERROR(all_ranks_sum(device, {{x.view()}}), "has none", "use_ranks");
  EXPECT_EQ(rank_of(device), 0);
  SharedRanks ranks(aligned, SharedRanks::bytes_needed(1, 64), 0, 1);
  device.use_ranks(ranks);
  all_ranks_sum(device, {{x.view()}});
  EXPECT_EQ(x[0], 1);
  EXPECT_THROW(all_ranks_sum(device, {{y.view().reshaped({2, 4}).columns(0, 2)}}), Error);
  EXPECT_THROW(all_ranks_reduce(device, {{{y.view().reshaped({2, 4}).columns(0, 2), 0}}}), Error);
  EXPECT_THROW(all_ranks_broadcast(device, {{{y.view().reshaped({2, 4}).columns(0, 2), 0}}}), Error);
  EXPECT_THROW(all_ranks_maximum(device, {{x.view()}}), Error);
  EXPECT_THROW(all_ranks_gather(device, {{{x.view(), y.view()}}}), Error);
  EXPECT_THROW(SharedRanks(aligned, 100, 0, 1), Error);
  EXPECT_THROW(SharedRanks(aligned, 1000, 2, 2), Error);
}

}  // namespace
}  // namespace neurogen

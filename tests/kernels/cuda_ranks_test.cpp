// Operations among ranks on GPUs, directly and through NCCL.
#include <functional>
#include <string_view>

#include "arena/block.h"
#include "kernels/all_ranks.h"
#include "kernels/base/half.h"
#include "kernels/copy.h"
#include "tests/expect_error.h"
#include "tests/gpu_ranks.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

struct Way {
  bool directly;  // else through NCCL
  int ranks;
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.ranks << (way.directly ? "Directly" : "ThroughNccl"); }

// A rank's tensors lie in one block, which the others reach.
struct OnGpu {
  CudaDevice& device;
  int rank, ranks;
  const Block& block;

  template <typename T>
  TensorView view(DType type, Bytes first, std::int64_t n) const {
    return make_view(block.data() + first * sizeof(T), type, {n});
  }
};

class CudaRanksDeathTest : public testing::TestWithParam<Way> {
 protected:
  // NCCL wants a GPU for each rank. Directly they may share one, which runs them in turns.
  void SetUp() override {
    gpus_ = gpus_here();
    if (gpus_ < (GetParam().directly ? 1 : GetParam().ranks)) GTEST_SKIP() << "there are " << gpus_ << " GPUs here";
  }

  // Runs body on all ranks with a block of `bytes`.
  void on_gpus(Bytes bytes, const std::function<std::vector<std::byte>(const OnGpu&)>& body) const {
    const int size = GetParam().ranks;
    const auto results = on_ranks(size, [&](SharedRanks& ranks) {
      CudaDevice device(ranks.rank() % gpus_);
      std::unique_ptr<Nccl> nccl;
      std::unique_ptr<Peers> peers;
      const Block block = Block::on_gpu(bytes);
      if (GetParam().directly) {
        peers = std::make_unique<Peers>(ranks.rank(), size, block, gather_of(ranks));
        device.use_peers(*peers);
      } else {
        nccl = std::make_unique<Nccl>(shared_id(ranks), ranks.rank(), size);
        device.use_nccl(*nccl);
      }
      const std::vector<std::byte> result = body({device, ranks.rank(), size, block});
      device.synchronize();
      return result;
    });
    ASSERT_EQ(results.size(), static_cast<std::size_t>(size));
    for (const std::vector<std::byte>& result : results) EXPECT_EQ(result, results[0]) << "ranks differ";
  }

  template <typename T>
  void check_sums(DType type, double relative) const;

 private:
  int gpus_ = 0;
};

constexpr std::int64_t kLengths[] = {1, 1000, 3'000'008};
constexpr Bytes kApart = 3;  // elements between tensors, so that some are not aligned

template <typename T>
std::vector<T> noise(std::int64_t n, int rank) {
  std::vector<T> values(static_cast<std::size_t>(n));
  const Tensor<float> x = Tensor<float>::noise({n}, static_cast<unsigned>(10 * rank) + 1);
  for (std::int64_t i = 0; i < n; ++i) narrow(x[i], values[static_cast<std::size_t>(i)]);
  return values;
}

// Elements of `got` that are not the sums over ranks; `relative`: what one addition may be off.
template <typename T>
int wrong_sums(const std::vector<T>& got, const std::vector<std::vector<T>>& of_ranks, double relative) {
  int wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    double want = 0, most = 0;
    for (const std::vector<T>& one : of_ranks) {
      want += static_cast<double>(widen(one[i]));
      most = std::max(most, std::abs(want));
    }
    wrong +=
        std::abs(static_cast<double>(widen(got[i])) - want) > relative * static_cast<double>(of_ranks.size() - 1) * most + 1e-7;
  }
  return wrong;
}

template <typename T>
void CudaRanksDeathTest::check_sums(DType type, double relative) const {
  constexpr Bytes kTensors = 4;
  on_gpus(kTensors * (static_cast<Bytes>(kLengths[2]) + kApart) * sizeof(T), [&](const OnGpu& on) {
    std::vector<std::size_t> hashes;
    for (const std::int64_t n : kLengths) {
      std::vector<std::vector<T>> of_ranks;
      for (int rank = 0; rank < on.ranks; ++rank) of_ranks.push_back(noise<T>(n, rank));
      const Bytes bytes = of_ranks[0].size() * sizeof(T);
      const auto part = [&](Bytes i) { return on.view<T>(type, i * (static_cast<Bytes>(n) + kApart), n); };
      for (Bytes i = 0; i < kTensors; ++i)
        on.device.copy_now(of_ranks[static_cast<std::size_t>(on.rank)].data(), part(i).data, bytes);
      const int last = on.ranks - 1;
      // Two tensors for all, and two for a root each, which passes its sum on.
      all_ranks_sum(on.device, {{part(0), part(1)}, 1, n % 2 == 0});
      all_ranks_reduce(on.device, {{{part(2), 0}, {part(3), last}}, 2});
      all_ranks_wait(on.device, 2);
      if (on.rank != 0) clear(on.device, part(2));
      all_ranks_broadcast(on.device, {{{part(2), 0}, {part(3), last}}, kAllRanksLastTicket, n % 2 == 0});
      all_ranks_wait(on.device, kAllRanksLastTicket);
      for (Bytes i = 0; i < kTensors; ++i) {
        std::vector<T> got(static_cast<std::size_t>(n));
        on.device.copy_now(part(i).data, got.data(), bytes);
        EXPECT_EQ(wrong_sums(got, of_ranks, relative), 0) << name_of(type) << " x " << n << ", tensor " << i;
        hashes.push_back(std::hash<std::string_view>()({reinterpret_cast<const char*>(got.data()), bytes}));
      }
    }
    return bytes_of(hashes);
  });
}

TEST_P(CudaRanksDeathTest, SumInEveryType) {
  check_sums<float>(DType::f32, 1e-6);
  check_sums<double>(DType::f64, 1e-6);  // widen() is to float32
  check_sums<Bf16>(DType::bf16, 0x1p-8);
  check_sums<F16>(DType::f16, 0x1p-11);
}

TEST_P(CudaRanksDeathTest, TakeTheLargestNumberAndGather) {
  on_gpus(4096, [&](const OnGpu& on) {
    std::vector<std::int32_t> values = {on.rank + 5, -on.rank, 7}, want, gathered(static_cast<std::size_t>(3 * on.ranks));
    for (int rank = 0; rank < on.ranks; ++rank) want.insert(want.end(), {rank + 5, -rank, 7});
    const TensorView mine = on.view<std::int32_t>(DType::i32, 0, 3), all = on.view<std::int32_t>(DType::i32, 64, 3 * on.ranks);
    on.device.copy_now(values.data(), mine.data, 12);
    all_ranks_gather(on.device, {{{mine, all}}, 2});
    all_ranks_wait(on.device, 2);
    on.device.copy_now(all.data, gathered.data(), gathered.size() * sizeof gathered[0]);
    EXPECT_EQ(gathered, want);
    all_ranks_maximum(on.device, {{mine}, 6});
    all_ranks_wait(on.device, 6);
    on.device.copy_now(mine.data, values.data(), 12);
    EXPECT_EQ(values, (std::vector<std::int32_t>{on.ranks + 4, 0, 7}));
    return bytes_of(values);
  });
}

// As a step has it: one sum goes on beside other operations and the one after it, which is passed on beside others, captured and
// launched again and again.
TEST_P(CudaRanksDeathTest, OverlapInACapturedGraph) {
  constexpr std::int64_t n = 1 << 22;
  on_gpus(5 * n * sizeof(float), [&](const OnGpu& on) {
    CudaDevice& device = on.device;
    const auto part = [&](Bytes i) { return on.view<float>(DType::f32, i * n, n); };
    const auto step = [&] {
      copy(device, part(4), part(0));
      all_ranks_sum(device, {{part(0)}, 0});
      copy(device, part(4), part(1));
      all_ranks_reduce(device, {{{part(1), 1}}, 1});
      all_ranks_wait(device, 0);
      copy(device, part(0), part(2));  // while the other sum goes on
      clear(device, part(0));
      all_ranks_wait(device, 1);
      all_ranks_broadcast(device, {{{part(1), 1}}, kAllRanksLastTicket});
      copy(device, part(2), part(0));  // while that goes on
      all_ranks_wait(device, kAllRanksLastTicket);
      copy(device, part(1), part(3));
      copy(device, part(3), part(4));  // for the next time
    };
    std::vector<float> x(n, static_cast<float>(on.rank + 1)), results[2] = {x, x};
    step();
    device.synchronize();
    device.begin_capture();
    step();
    const CudaGraph graph = device.end_capture();
    device.copy_now(x.data(), part(4).data, n * sizeof(float));
    float want = static_cast<float>(on.ranks * (on.ranks + 1) / 2);
    for (int round = 0; round < 5; ++round, want *= static_cast<float>(on.ranks)) {
      device.launch(graph);
      for (const Bytes i : {0, 1}) {
        device.copy_now(part(2 + i).data, results[i].data(), n * sizeof(float));
        EXPECT_EQ(std::count(results[i].begin(), results[i].end(), want), n) << "round " << round << ", sum " << i;
      }
    }
    return bytes_of(results[1]);
  });
}

INSTANTIATE_TEST_SUITE_P(, CudaRanksDeathTest, testing::Values(Way{true, 2}, Way{true, 3}, Way{false, 2}),
                         testing::PrintToStringParamName());

TEST(CudaNcclDeathTest, SaysHowToGetAMissingLibrary) {
  in_processes(1, [](int) {
    setenv("NEUROGEN_NCCL", "/none/libnccl.so.2", 1);
    EXPECT_ERROR(Nccl::new_id(), "/none/libnccl.so.2 cannot be loaded", "install NCCL 2.18 or newer", "NEUROGEN_NCCL");
    return std::vector<std::byte>{};
  });
}

class CudaNcclMemoryDeathTest : public TwoGpus {};

TEST_F(CudaNcclMemoryDeathTest, IsNoMoreThanPlanned) {
  on_ranks(2, [](SharedRanks& ranks) {
    const CudaDevice device(ranks.rank());
    const Nccl nccl(shared_id(ranks), ranks.rank(), 2);
    const Bytes most = nccl_bytes(device.multiprocessors());
    EXPECT_LE(nccl.gpu_bytes(), most);
    std::printf("NCCL %s takes %zu of %zu bytes\n", Nccl::version().c_str(), static_cast<std::size_t>(nccl.gpu_bytes()),
                static_cast<std::size_t>(most));
    return std::vector<std::byte>{};
  });
}

// All GPUs of a machine that the driver joins by NVLink; a GPU that is named twice is no peer of itself.
TEST(CudaPeersDeathTest, AreThoseOfOneHostOnceEach) {
  if (gpus_here() == 0) GTEST_SKIP() << "there is no GPU here";
  in_processes(1, [](int) {
    const Peers::Card card = Peers::card(0);
    Peers::Card elsewhere = card;
    elsewhere.host[0] ^= 1;
    EXPECT_TRUE(Peers::reaches(0, std::array{card}));
    EXPECT_FALSE(Peers::reaches(0, std::array{card, card}));
    EXPECT_FALSE(Peers::reaches(0, std::array{card, elsewhere}));
    setenv("NCCL_P2P_DISABLE", "1", 1);
    EXPECT_FALSE(Peers::reaches(0, std::array{card}));
    return std::vector<std::byte>{};
  });
}

}  // namespace
}  // namespace neurogen

// Operations among ranks on two GPUs, directly and through NCCL.
#include "arena/block.h"
#include "kernels/all_ranks.h"
#include "kernels/base/half.h"
#include "kernels/copy.h"
#include "tests/expect_error.h"
#include "tests/gpu_ranks.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

// A rank's tensors lie in one block, which the other reaches.
struct OnGpu {
  CudaDevice& device;
  int rank;
  const Block& block;

  template <typename T>
  TensorView view(DType type, Bytes first, std::int64_t n) const {
    return make_view(block.data() + first * sizeof(T), type, {n});
  }
};

// With GetParam() directly, otherwise through NCCL.
class CudaRanksDeathTest : public TwoGpus, public testing::WithParamInterface<bool> {
 protected:
  // Runs body on two ranks with a block of `bytes`.
  static void on_two_gpus(Bytes bytes, const std::function<std::vector<std::byte>(const OnGpu&)>& body) {
    const auto results = on_ranks(2, [&](SharedRanks& ranks) {
      CudaDevice device(ranks.rank());
      std::unique_ptr<Nccl> nccl;
      std::unique_ptr<Peers> peers;
      const Block block = Block::on_gpu(bytes);
      if (GetParam()) {
        peers = std::make_unique<Peers>(ranks.rank(), 2, block, gather_of(ranks));
        device.use_peers(*peers);
      } else {
        nccl = std::make_unique<Nccl>(shared_id(ranks), ranks.rank(), 2);
        device.use_nccl(*nccl);
      }
      const std::vector<std::byte> result = body({device, ranks.rank(), block});
      device.synchronize();
      return result;
    });
    ASSERT_EQ(results.size(), 2u);
    EXPECT_EQ(results[0], results[1]) << "ranks differ";
  }

  template <typename T>
  static void check_sums(DType type, double relative);
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

// Elements of `got` that are not the sum of the others.
template <typename T>
int wrong_sums(const std::vector<T>& got, const std::vector<T>& first, const std::vector<T>& second, double relative) {
  int wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double want = static_cast<double>(widen(first[i])) + static_cast<double>(widen(second[i]));
    wrong += std::abs(static_cast<double>(widen(got[i])) - want) > relative * std::abs(want) + 1e-7;
  }
  return wrong;
}

template <typename T>
void CudaRanksDeathTest::check_sums(DType type, double relative) {
  on_two_gpus(4 * (kLengths[2] + 2 * static_cast<std::int64_t>(kApart)) * sizeof(T), [&](const OnGpu& on) {
    std::vector<std::byte> all;
    for (const std::int64_t n : kLengths) {
      const std::vector<T> first = noise<T>(n, 0), second = noise<T>(n, 1), mine = on.rank == 0 ? first : second;
      const Bytes apart = static_cast<Bytes>(n) + kApart, bytes = mine.size() * sizeof(T);
      const auto part = [&](Bytes i) { return on.view<T>(type, i * apart, n); };
      for (const Bytes i : {0, 1, 2, 3}) on.device.copy_now(mine.data(), part(i).data, bytes);
      // Two tensors at once, one that waits for nothing else, and two with a root each.
      all_ranks_sum(on.device, {{part(0), part(1)}, 1, n % 2 == 0});
      all_ranks_reduce(on.device, {{{part(2), 0}, {part(3), 1}}, 2});
      all_ranks_wait(on.device, 2);
      std::vector<T> got(mine.size());
      for (const Bytes i : {0, 1, 2, 3}) {
        on.device.copy_now(part(i).data, got.data(), bytes);
        if (i < 2 || i == static_cast<Bytes>(2 + on.rank)) {
          EXPECT_EQ(wrong_sums(got, first, second, relative), 0) << name_of(type) << " x " << n << ", tensor " << i;
        }
        if (i >= 2) continue;
        const std::vector<std::byte> bits = bytes_of(got);
        all.insert(all.end(), bits.begin(), bits.end());
      }
      all_ranks_broadcast(on.device, {{{part(2), 0}, {part(3), 1}}, 3, n % 2 == 0});
      all_ranks_wait(on.device, 3);
      for (const Bytes i : {2, 3}) {
        on.device.copy_now(part(i).data, got.data(), bytes);
        EXPECT_EQ(wrong_sums(got, first, second, relative), 0) << name_of(type) << " x " << n << ", passed on " << i;
      }
    }
    return all;
  });
}

TEST_P(CudaRanksDeathTest, SumInEveryType) {
  check_sums<float>(DType::f32, 1e-6);
  check_sums<double>(DType::f64, 1e-6);  // widen() is to float32
  check_sums<Bf16>(DType::bf16, 0x1p-8);
  check_sums<F16>(DType::f16, 0x1p-11);
}

TEST_P(CudaRanksDeathTest, TakeTheLargestNumberAndGather) {
  on_two_gpus(4096, [&](const OnGpu& on) {
    std::vector<std::int32_t> values = {on.rank + 5, -on.rank, 7};
    const TensorView mine = on.view<std::int32_t>(DType::i32, 0, 3), all = on.view<std::int32_t>(DType::i32, 64, 6);
    on.device.copy_now(values.data(), mine.data, 12);
    all_ranks_gather(on.device, {{{mine, all}}, 2});
    all_ranks_wait(on.device, 2);
    std::vector<std::int32_t> gathered(6);
    on.device.copy_now(all.data, gathered.data(), 24);
    EXPECT_EQ(gathered, (std::vector<std::int32_t>{5, 0, 7, 6, -1, 7}));
    all_ranks_maximum(on.device, {{mine}, 7});
    all_ranks_wait(on.device, 7);
    on.device.copy_now(mine.data, values.data(), 12);
    EXPECT_EQ(values, (std::vector<std::int32_t>{6, 0, 7}));
    return bytes_of(values);
  });
}

// As a step has it: one sum goes on beside other operations and the one after it, which is passed on beside others, captured and
// launched again and again.
TEST_P(CudaRanksDeathTest, OverlapInACapturedGraph) {
  constexpr std::int64_t n = 1 << 22;
  on_two_gpus(5 * n * sizeof(float), [&](const OnGpu& on) {
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
      copy(device, part(3), part(4));  // twice as much for the next time
    };
    std::vector<float> x(n, on.rank == 0 ? 1.0f : 2.0f), results[2] = {x, x};
    step();
    device.synchronize();
    device.begin_capture();
    step();
    const CudaGraph graph = device.end_capture();
    device.copy_now(x.data(), part(4).data, n * sizeof(float));
    float want = 3;
    for (int round = 0; round < 5; ++round, want *= 2) {
      device.launch(graph);
      for (const Bytes i : {0, 1}) {
        device.copy_now(part(2 + i).data, results[i].data(), n * sizeof(float));
        EXPECT_EQ(std::count(results[i].begin(), results[i].end(), want), n) << "round " << round << ", sum " << i;
      }
    }
    return bytes_of(results[1]);
  });
}

INSTANTIATE_TEST_SUITE_P(, CudaRanksDeathTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Directly" : "ThroughNccl"; });

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

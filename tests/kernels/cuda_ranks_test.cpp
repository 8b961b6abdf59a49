// Operations among ranks on two GPUs, through NCCL.
#include "arena/block.h"
#include "kernels/all_ranks.h"
#include "kernels/base/half.h"
#include "kernels/copy.h"
#include "tests/expect_error.h"
#include "tests/gpu_ranks.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

using CudaRanksDeathTest = TwoGpus;

// Runs body(device, nccl) on two ranks.
void on_two_gpus(const std::function<std::vector<std::byte>(CudaDevice&, Nccl&)>& body) {
  const auto results = on_ranks(2, [&](SharedRanks& ranks) {
    CudaDevice device(ranks.rank());
    Nccl nccl(shared_id(ranks), ranks.rank(), 2);
    device.use_nccl(nccl);
    const std::vector<std::byte> result = body(device, nccl);
    device.synchronize();
    return result;
  });
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0], results[1]) << "ranks differ";
}

template <typename T>
TensorView view_on(const Block& block, DType type, Bytes first, std::int64_t n) {
  return make_view(block.data() + first * sizeof(T), type, {n});
}

template <typename T>
void check_sums(DType type, double relative) {
  constexpr std::int64_t kLengths[] = {1, 1000, 3'000'008};
  on_two_gpus([&](CudaDevice& device, Nccl& nccl) {
    std::vector<std::byte> all;
    for (const std::int64_t n : kLengths) {
      const auto of = [&](int rank) {
        std::vector<T> values(static_cast<std::size_t>(n));
        const Tensor<float> x = Tensor<float>::noise({n}, static_cast<unsigned>(10 * rank) + 1);
        for (std::int64_t i = 0; i < n; ++i) narrow(x[i], values[static_cast<std::size_t>(i)]);
        return values;
      };
      const std::vector<T> first = of(0), second = of(1), mine = nccl.rank() == 0 ? first : second;
      std::vector<T> got(mine.size());
      const Bytes bytes = mine.size() * sizeof(T);
      const Block block = Block::on_gpu(2 * bytes);
      device.copy_now(mine.data(), block.data(), bytes);
      device.copy_now(mine.data(), block.data() + bytes, bytes);
      // Two tensors at once, and the first again by itself.
      all_ranks_sum(device, {{view_on<T>(block, type, 0, n), view_on<T>(block, type, static_cast<Bytes>(n), n)}, 1});
      all_ranks_wait(device, 1);
      device.copy_now(block.data() + bytes, got.data(), bytes);
      int wrong = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        const double want = static_cast<double>(widen(first[i])) + static_cast<double>(widen(second[i]));
        wrong += std::abs(static_cast<double>(widen(got[i])) - want) > relative * std::abs(want) + 1e-7;
      }
      EXPECT_EQ(wrong, 0) << name_of(type) << " x " << n;
      const std::vector<std::byte> bits = bytes_of(got);
      all.insert(all.end(), bits.begin(), bits.end());
    }
    return all;
  });
}

TEST_F(CudaRanksDeathTest, SumInEveryType) {
  check_sums<float>(DType::f32, 1e-6);
  check_sums<double>(DType::f64, 1e-6);  // widen() is to float32
  check_sums<Bf16>(DType::bf16, 0x1p-8);
  check_sums<F16>(DType::f16, 0x1p-11);
}

TEST_F(CudaRanksDeathTest, TakeTheLargestNumberAndGather) {
  on_two_gpus([&](CudaDevice& device, Nccl& nccl) {
    const Block block = Block::on_gpu(4096);
    std::vector<std::int32_t> values = {nccl.rank() + 5, -nccl.rank(), 7};
    device.copy_now(values.data(), block.data(), 12);
    const TensorView mine = view_on<std::int32_t>(block, DType::i32, 0, 3), all = view_on<std::int32_t>(block, DType::i32, 64, 6);
    all_ranks_gather(device, {{{mine, all}}, 2});
    all_ranks_wait(device, 2);
    std::vector<std::int32_t> gathered(6);
    device.copy_now(all.data, gathered.data(), 24);
    EXPECT_EQ(gathered, (std::vector<std::int32_t>{5, 0, 7, 6, -1, 7}));
    all_ranks_maximum(device, {{mine}, 7});
    all_ranks_wait(device, 7);
    device.copy_now(mine.data, values.data(), 12);
    EXPECT_EQ(values, (std::vector<std::int32_t>{6, 0, 7}));
    return bytes_of(values);
  });
}

// As a step has it: one sum goes on beside other operations and the sum after it, captured and launched again and again.
TEST_F(CudaRanksDeathTest, OverlapInACapturedGraph) {
  constexpr std::int64_t n = 1 << 22;
  on_two_gpus([&](CudaDevice& device, Nccl& nccl) {
    const Block block = Block::on_gpu(5 * n * sizeof(float));
    const auto part = [&](Bytes i) { return view_on<float>(block, DType::f32, i * n, n); };
    const auto step = [&] {
      copy(device, part(4), part(0));
      all_ranks_sum(device, {{part(0)}, 0});
      copy(device, part(4), part(1));
      all_ranks_sum(device, {{part(1)}, 1});
      all_ranks_wait(device, 0);
      copy(device, part(0), part(2));  // while the other sum goes on
      clear(device, part(0));
      all_ranks_wait(device, 1);
      copy(device, part(1), part(3));
      copy(device, part(3), part(4));  // twice as much for the next time
    };
    std::vector<float> x(n, nccl.rank() == 0 ? 1.0f : 2.0f), results[2] = {x, x};
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

TEST(CudaNcclDeathTest, SaysHowToGetAMissingLibrary) {
  in_processes(1, [](int) {
    setenv("NEUROGEN_NCCL", "/none/libnccl.so.2", 1);
    EXPECT_ERROR(Nccl::new_id(), "/none/libnccl.so.2 cannot be loaded", "install NCCL 2.18 or newer", "NEUROGEN_NCCL");
    return std::vector<std::byte>{};
  });
}

TEST_F(CudaRanksDeathTest, TakeNoMoreMemoryThanPlanned) {
  on_two_gpus([](CudaDevice&, Nccl& nccl) {
    EXPECT_LE(nccl.gpu_bytes(), nccl_bytes());
    std::printf("NCCL %s takes %zu of %zu bytes\n", Nccl::version().c_str(), static_cast<std::size_t>(nccl.gpu_bytes()),
                static_cast<std::size_t>(nccl_bytes()));
    return std::vector<std::byte>{};
  });
}

}  // namespace
}  // namespace neurogen

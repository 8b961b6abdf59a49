#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "kernels/base/peers.cuh"

namespace neurogen {
namespace {

template <std::size_t size>
std::array<char, size> text(const std::string& of) {
  std::array<char, size> to{};
  of.copy(to.data(), size - 1);
  return to;
}

// A rank's memory, for the others to map.
struct Handles {
  cudaIpcMemHandle_t arena, counters;
};

void* open(const cudaIpcMemHandle_t& handle, int rank) {
  void* memory = nullptr;
  const cudaError_t status = cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess);
  if (status == cudaSuccess) return memory;
  throw Error("CUDA does not map the memory of rank " + std::to_string(rank) + "'s GPU (" + cudaGetErrorString(status) +
                  "): set NCCL_P2P_DISABLE=1, to exchange through NCCL and the host's memory",
              Error::kRunTime);
}

}  // namespace

Peers::Card Peers::card(int ordinal) {
  char bus[32] = {};
  require_cuda(cudaDeviceGetPCIBusId(bus, sizeof bus, ordinal), "asking for its address");
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return {text<64>(boot), text<32>(bus)};
}

bool Peers::reaches(int ordinal, std::span<const Card> all) {
  if (const char* off = std::getenv("NCCL_P2P_DISABLE"); off && std::strcmp(off, "0") != 0) return false;
  if (all.size() > kMost) return false;
  const Card mine = card(ordinal);
  int here = 0;  // ranks on this GPU
  for (const Card& other : all) {
    if (other.host != mine.host || other.host[0] == 0) return false;
    if (other.bus == mine.bus && ++here == 1) continue;
    int its = 0, linked = 0;
    // A GPU that a launcher hides from this process has no number here.
    if (cudaDeviceGetByPCIBusId(&its, other.bus.data()) != cudaSuccess ||
        cudaDeviceGetP2PAttribute(&linked, cudaDevP2PAttrNativeAtomicSupported, ordinal, its) != cudaSuccess) {
      cudaGetLastError();  // clears the error
      return false;
    }
    if (linked == 0) return false;  // over PCIe atomics are not native
  }
  return true;
}

bool Peers::linked(int gpus) {
  if (gpus > kMost || gpus > CudaDevice::count()) return false;
  std::vector<Card> cards;
  for (int ordinal = 0; ordinal < gpus; ++ordinal) cards.push_back(card(ordinal));
  for (int ordinal = 0; ordinal < gpus; ++ordinal)
    if (!reaches(ordinal, cards)) return false;
  return true;
}

Peers::Peers(int rank, int size, const Block& arena, const Gather& gather) : native_(std::make_unique<Native>(rank, size)) {
  Native& n = *native_;
  int major = 0, ordinal = 0;
  require_cuda(cudaGetDevice(&ordinal), "asking for the current GPU");
  require_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal), "asking for its properties");
  n.clusters = major >= 9;
  n.taken = std::max(n.multiprocessors / 32, 1);
  n.arena = arena.data();
  n.arena_bytes = arena.size();
  constexpr Bytes kArrived = Bytes{kPeerBlocks} * kMost * sizeof(std::uint32_t);
  n.counters = Block::on_gpu(kArrived + kPeerBlocks * sizeof(std::uint32_t));
  require_cuda(cudaDeviceSynchronize(), "clearing its counters");
  Handles mine;
  require_cuda(cudaIpcGetMemHandle(&mine.arena, arena.data()), "passing on its memory");
  require_cuda(cudaIpcGetMemHandle(&mine.counters, n.counters.data()), "passing on its memory");
  std::array<Handles, kMost> all;
  gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all).first(static_cast<std::size_t>(size))));
  n.all.rank = rank, n.all.size = size;
  n.all.meetings = reinterpret_cast<std::uint32_t*>(n.counters.data() + kArrived);
  for (int other = 0; other < size; ++other) {
    std::byte *memory = arena.data(), *counters = n.counters.data();
    if (other != rank) {
      const Handles& its = all[static_cast<std::size_t>(other)];
      n.mapped[2 * other] = memory = static_cast<std::byte*>(open(its.arena, other));
      n.mapped[2 * other + 1] = counters = static_cast<std::byte*>(open(its.counters, other));
    }
    n.all.distance[other] = memory - arena.data();
    n.all.arrived[other] = reinterpret_cast<std::uint32_t*>(counters);
  }
  const std::byte here{1};
  std::array<std::byte, kMost> opened;
  gather(std::span(&here, 1), std::span(opened).first(static_cast<std::size_t>(size)));  // all have opened all
}

Peers::Native::~Native() {
  for (void* memory : mapped) {
    if (memory) cudaIpcCloseMemHandle(memory);
  }
}

Peers::~Peers() = default;

}  // namespace neurogen

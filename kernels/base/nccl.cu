#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <exception>

#include "arena/error.h"
#include "kernels/base/nccl.cuh"

namespace neurogen {
namespace {

constexpr int kOldest = 21800;            // 2.18: the first that takes a number of channels for one communicator
constexpr std::size_t kWarmUp = 1 << 20;  // elements
constexpr char kLibrary[] = "libnccl.so.2";

std::string version_text(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

// The environment's own settings win. Rings alone keep the memory small and the order of sums the same; multicast takes memory that
// no setting bounds.
void set_environment() {
  for (const auto& [name, value] : {std::pair{"NCCL_ALGO", "Ring"}, {"NCCL_NVLS_ENABLE", "0"}, {"NCCL_COLLNET_ENABLE", "0"}})
    setenv(name, value, /*overwrite=*/0);
}

void* open_library() {
  const char* const chosen = std::getenv("NEUROGEN_NCCL");
  const std::string installed = std::string("/usr/local/cuda/lib64/") + kLibrary;
  for (const char* path : {chosen ? chosen : kLibrary, chosen ? nullptr : installed.c_str()}) {
    if (void* const handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr) return handle;
  }
  throw Error(std::string(chosen ? chosen : kLibrary) +
              " cannot be loaded, and several GPUs exchange through it: install NCCL 2.18 or newer (pip install nvidia-nccl-cu" +
              std::to_string(CUDART_VERSION / 1000) + "), or let NEUROGEN_NCCL name the file");
}

NcclFunctions load() {
  set_environment();
  void* const handle = open_library();
  NcclFunctions f;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, symbol));
    if (!function) throw Error(std::string("NCCL lacks ") + symbol + ": install NCCL 2.18 or newer");
  };
  find(f.version, "ncclGetVersion");
  find(f.error, "ncclGetErrorString");
  find(f.last_error, "ncclGetLastError");
  int version = 0;
  f.version(&version);
  if (version < kOldest) throw Error("NCCL is of version " + version_text(version) + ": install 2.18 or newer");
  find(f.unique_id, "ncclGetUniqueId");
  find(f.init, "ncclCommInitRankConfig");
  find(f.destroy, "ncclCommDestroy");
  find(f.abort, "ncclCommAbort");
  find(f.group_start, "ncclGroupStart");
  find(f.group_end, "ncclGroupEnd");
  find(f.all_reduce, "ncclAllReduce");
  find(f.reduce, "ncclReduce");
  find(f.broadcast, "ncclBroadcast");
  find(f.all_gather, "ncclAllGather");
  return f;
}

Bytes free_memory() {
  std::size_t free = 0, total = 0;
  require_cuda(cudaMemGetInfo(&free, &total), "asking for its memory");
  return free;
}

}  // namespace

const NcclFunctions& nccl() {
  static const NcclFunctions loaded = load();
  return loaded;
}

void require_nccl(NcclFunctions::Result result, const char* what) {
  if (result == 0) return;
  std::string why = nccl().error(result);
  if (const char* const last = nccl().last_error(nullptr); last && *last) why += std::string(", ") + last;
  std::replace(why.begin(), why.end(), '\n', ' ');
  throw Error(std::string("NCCL failed in ") + what + " (" + why + "): NCCL_DEBUG=WARN tells more", Error::kRunTime);
}

NcclId Nccl::new_id() {
  NcclFunctions::Id made;
  require_nccl(nccl().unique_id(&made), "making an id");
  NcclId id;
  static_assert(sizeof id == sizeof made);
  std::memcpy(id.data(), &made, sizeof id);
  return id;
}

std::string Nccl::version() {
  int version = 0;
  require_nccl(nccl().version(&version), "telling its version");
  return version_text(version);
}

Nccl::Nccl(const NcclId& id, int rank, int size) : native_(std::make_unique<Native>(rank, size)) {
  Native& n = *native_;
  n.taken = nccl_channels(n.multiprocessors);
  const Bytes before = free_memory();
  NcclFunctions::Id made;
  std::memcpy(&made, id.data(), sizeof made);
  NcclFunctions::Settings settings;
  settings.least_channels = settings.most_channels = n.taken;
  require_nccl(nccl().init(&n.communicator, size, made, rank, &settings), "connecting the ranks");
  // Rings are connected, and take their memory, when the first operation uses them.
  float* some = nullptr;
  require_cuda(cudaMalloc(&some, kWarmUp * static_cast<std::size_t>(size + 1) * sizeof *some), "taking memory to begin with NCCL");
  require_nccl(nccl().all_reduce(some, some, kWarmUp, NcclFunctions::f32, NcclFunctions::sum, n.communicator, n.stream), "a sum");
  for (int root = 0; root < size; ++root) {
    require_nccl(nccl().reduce(some, some, kWarmUp, NcclFunctions::f32, NcclFunctions::sum, root, n.communicator, n.stream),
                 "a sum on one rank");
    require_nccl(nccl().broadcast(some, some, kWarmUp, NcclFunctions::f32, root, n.communicator, n.stream), "a broadcast");
  }
  require_nccl(nccl().all_gather(some, some + kWarmUp, kWarmUp, NcclFunctions::f32, n.communicator, n.stream), "a gathering");
  require_cuda(cudaStreamSynchronize(n.stream), "the first exchange among ranks");
  require_cuda(cudaFree(some), "freeing memory");
  const Bytes after = free_memory();
  n.gpu_bytes = before > after ? before - after : 0;
}

Nccl::~Nccl() {
  Native& n = *native_;
  // While an error ends the run, others may not come to end it together.
  if (n.communicator) std::uncaught_exceptions() > 0 ? nccl().abort(n.communicator) : nccl().destroy(n.communicator);
}

Bytes Nccl::gpu_bytes() const { return native_->gpu_bytes; }

}  // namespace neurogen

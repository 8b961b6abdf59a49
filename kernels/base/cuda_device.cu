#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "arena/gpu_errors.h"
#include "kernels/base/cuda_kernel.cuh"

namespace neurogen {
namespace {

constexpr std::size_t kStackSize = 256;  // bytes per thread; these kernels use none, and the driver reserves it for all threads

// Memory in use on a GPU, read without creating a context there: through NVML, which comes with the driver and is loaded at run
// time. `found` is false if it is missing.
struct DeviceMemory {
  bool found = false;
  Bytes used = 0;
};

DeviceMemory memory_in_use(int ordinal) {
  struct Memory {
    unsigned long long total, free, used;
  };
  char address[32];
  if (cudaDeviceGetPCIBusId(address, sizeof address, ordinal) != cudaSuccess) return {};
  static void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {};
  static const auto init = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
  static const auto find = reinterpret_cast<int (*)(const char*, void**)>(dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2"));
  static const auto ask = reinterpret_cast<int (*)(void*, Memory*)>(dlsym(library, "nvmlDeviceGetMemoryInfo"));
  static const bool ready = init && find && ask && init() == 0;
  void* device = nullptr;
  Memory memory{};
  if (!ready || find(address, &device) != 0 || ask(device, &memory) != 0) return {};
  return {true, memory.used};
}

__global__ void nothing() {}

// Whether this build has machine code, or PTX that can be compiled, for the current GPU.
bool has_code() {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, nothing);
  if (status != cudaErrorNoKernelImageForDevice && status != cudaErrorInvalidDeviceFunction) return true;
  cudaGetLastError();  // clears the error: the caller reports it
  return false;
}

}  // namespace

CudaGraph::CudaGraph(CudaGraph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
CudaGraph& CudaGraph::operator=(CudaGraph&& other) noexcept {
  std::swap(executable_, other.executable_);
  return *this;
}
CudaGraph::~CudaGraph() {
  if (executable_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

CurrentGpu::CurrentGpu(int ordinal) {
  require_cuda(cudaGetDevice(&before_), "asking for the current GPU");
  require_cuda(cudaSetDevice(ordinal), "choosing a GPU");
}
CurrentGpu::~CurrentGpu() { cudaSetDevice(before_); }

int CudaDevice::count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  const GpuAnswer answer = status == cudaSuccess                   ? GpuAnswer::counted
                           : status == cudaErrorNoDevice           ? GpuAnswer::none
                           : status == cudaErrorInsufficientDriver ? GpuAnswer::old_driver
                                                                   : GpuAnswer::refused;
  const bool driver = access("/proc/driver/nvidia/version", F_OK) == 0 || access("/dev/nvidiactl", F_OK) == 0;
  return usable_gpus(answer, count, driver, CUDART_VERSION / 1000, cudaGetErrorString(status));
}

CudaDevice::Traits CudaDevice::traits(int ordinal) {
  require_gpu(ordinal, count());
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    require_cuda(cudaDeviceGetAttribute(&value, which, ordinal), "asking for its properties");
    return value;
  };
  return {10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor),
          attribute(cudaDevAttrMultiProcessorCount)};
}

std::string CudaDevice::versions() {
  const auto text = [](int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); };
  int driver = 0;
  cudaDriverGetVersion(&driver);
  return "CUDA " + text(CUDART_VERSION) + ", cuBLAS " + std::to_string(CUBLAS_VER_MAJOR) + "." + std::to_string(CUBLAS_VER_MINOR) +
         (driver > 0 ? ", driver for CUDA up to " + text(driver) : ", no driver");
}

CudaDevice::CudaDevice(int ordinal) : native_(std::make_unique<Native>()) {
  // Loads only the kernels that are launched: all of cuBLAS would take hundreds of megabytes.
  setenv("CUDA_MODULE_LOADING", "LAZY", /*overwrite=*/0);
  require_gpu(ordinal, count());
  Native& n = *native_;
  n.ordinal = ordinal;
  require_cuda(cudaGetDeviceProperties(&n.properties, ordinal), "asking for its properties");
  require_capability(name(), capability(), true);  // before a context is created there
  n.used_before = memory_in_use(ordinal).used;
  const auto usable = [&](cudaError_t status) {
    if (status != cudaSuccess) throw gpu_refuses(name(), cudaGetErrorString(status));
  };
  usable(cudaSetDevice(ordinal));
  require_capability(name(), capability(), has_code());
  usable(cudaDeviceSetLimit(cudaLimitStackSize, kStackSize));
  usable(cudaStreamCreateWithFlags(&n.stream, cudaStreamNonBlocking));
  for (cudaEvent_t& mark : n.marks) usable(cudaEventCreate(&mark));
  if (cublas().create(&n.cublas) != CUBLAS_STATUS_SUCCESS || cublas().set_stream(n.cublas, n.stream) != CUBLAS_STATUS_SUCCESS) {
    throw Error({"cuBLAS cannot start on " + name() + ": free some of its memory, or pass ", Field("device"), " cpu"},
                Error::kRunTime);
  }
}

CudaDevice::~CudaDevice() {
  if (native_->cublas) cublas().destroy(native_->cublas);
  for (cudaEvent_t mark : native_->marks) {
    if (mark) cudaEventDestroy(mark);
  }
  for (cudaEvent_t mark : native_->numbered) cudaEventDestroy(mark);
  if (native_->stream) cudaStreamDestroy(native_->stream);
}

std::string CudaDevice::name() const { return native_->properties.name; }
int CudaDevice::capability() const { return 10 * native_->properties.major + native_->properties.minor; }
int CudaDevice::multiprocessors() const { return native_->properties.multiProcessorCount; }
Bytes CudaDevice::total_memory() const { return native_->properties.totalGlobalMem; }

Bytes CudaDevice::free_memory() const {
  std::size_t free = 0, total = 0;
  require_cuda(cudaMemGetInfo(&free, &total), "asking for its memory");
  return free;
}

Bytes CudaDevice::shared_memory() const {
  return std::min<Bytes>(native_->properties.sharedMemPerBlockOptin, native_->shared_memory_limit);
}
void CudaDevice::limit_shared_memory(Bytes bytes) { native_->shared_memory_limit = bytes; }

Bytes CudaDevice::used_by_us() const {
  const DeviceMemory now = memory_in_use(native_->ordinal);
  if (!now.found) return total_memory() - free_memory();
  return now.used > native_->used_before ? now.used - native_->used_before : 0;
}

void CudaDevice::use_workspace(void* memory, Bytes bytes) {
  if (cublas().set_workspace(native_->cublas, memory, bytes) != CUBLAS_STATUS_SUCCESS) {
    throw Error("cuBLAS rejects the planned workspace", Error::kRunTime);
  }
}

void CudaDevice::use_nccl(Nccl& nccl) { native_->nccl = &nccl; }
void CudaDevice::use_peers(Peers& peers) { native_->peers = &peers; }

void CudaDevice::synchronize() {
  require_cuda(cudaStreamSynchronize(native_->stream), "waiting for its kernels");
  ++native_->synchronizations;
}
std::int64_t CudaDevice::synchronizations() const { return native_->synchronizations; }

void CudaDevice::mark() {
  require_cuda(cudaEventRecord(native_->marks[native_->marked], native_->stream), "marking the time");
  native_->marked ^= 1;
}

namespace {
double milliseconds_between(cudaEvent_t begin, cudaEvent_t end) {
  float milliseconds = 0;
  require_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "reading the time");
  return static_cast<double>(milliseconds);
}
}  // namespace

double CudaDevice::milliseconds_between_marks() const {
  return milliseconds_between(native_->marks[native_->marked], native_->marks[native_->marked ^ 1]);
}

void CudaDevice::reserve_marks(std::size_t count) {
  while (native_->numbered.size() < count) {
    cudaEvent_t mark = nullptr;
    require_cuda(cudaEventCreate(&mark), "making a mark");
    native_->numbered.push_back(mark);
  }
}
void CudaDevice::mark(std::size_t number) {
  const unsigned kind = native_->capturing ? cudaEventRecordExternal : cudaEventRecordDefault;
  require_cuda(cudaEventRecordWithFlags(native_->numbered[number], native_->stream, kind), "marking the time");
}
bool CudaDevice::has_reached(std::size_t number) const {
  const cudaError_t status = cudaEventQuery(native_->numbered[number]);
  if (status != cudaErrorNotReady) require_cuda(status, "its work up to a mark");
  else cudaGetLastError();  // clears the error, which the next launch would report otherwise
  return status == cudaSuccess;
}
double CudaDevice::milliseconds_after_mark(std::size_t number) const {
  return milliseconds_between(native_->numbered[number], native_->numbered[number + 1]);
}

void CudaDevice::begin_capture() {
  require_cuda(cudaStreamBeginCapture(native_->stream, cudaStreamCaptureModeGlobal), "beginning a capture");
  native_->capturing = true;
}

CudaGraph CudaDevice::end_capture() {
  native_->capturing = false;
  cudaGraph_t recorded = nullptr;
  require_cuda(cudaStreamEndCapture(native_->stream, &recorded), "ending a capture");
  cudaGraphExec_t executable = nullptr;
  cudaError_t status = cudaGraphInstantiate(&executable, recorded, 0);
  cudaGraphDestroy(recorded);
  require_cuda(status, "making a graph");
  CudaGraph graph;
  graph.executable_ = executable;
  require_cuda(cudaGraphUpload(executable, native_->stream), "uploading a graph");
  return graph;
}

void CudaDevice::launch(const CudaGraph& graph) {
  require_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph.executable_), native_->stream), "launching a step");
}

void CudaDevice::fill(void* to, int byte, Bytes bytes) {
  require_cuda(cudaMemsetAsync(to, byte, bytes, native_->stream), "filling memory");
}

void CudaDevice::copy(const void* from, void* to, Bytes bytes) {
  require_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native_->stream), "a copy");
}
void CudaDevice::copy_now(const void* from, void* to, Bytes bytes) {
  copy(from, to, bytes);
  synchronize();
}

}  // namespace neurogen

// neurogen-engine doctor: prints what this machine has, what fits on it, and how to get what is missing, a line each.
#include <flatbuffers/flatbuffers.h>
#include <fmt/format.h>
#include <histedit.h>
#include <mimalloc.h>
#include <xxhash.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "arena/error.h"
#include "kernels/base/openblas.h"
#include "tools/common/output.h"
#include "tools/common/settings.h"
#include "tools/common/spelling.h"
#include "tools/neurogen-engine/commands.h"

namespace neurogen {
namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Extracts "AMD EPYC" from "model name : AMD EPYC" for "model name"; empty without such a line.
std::string field_of(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (line.rfind(name, 0) != 0 || colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

Bytes kilobytes_of(const std::string& text, const std::string& name) {
  return std::strtoull(field_of(text, name).c_str(), nullptr, 10) * 1024;
}

// Extracts "580.65.06" from "... Kernel Module  580.65.06  ...".
std::string driver_version() {
  std::istringstream words(text_of("/proc/driver/nvidia/version"));
  for (std::string word; words >> word;) {
    if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != std::string::npos) return word;
  }
  return "";
}

// NVIDIA cards on the PCI bus, with or without a driver.
int cards() {
  int count = 0;
  std::error_code none;
  for (const auto& device : std::filesystem::directory_iterator("/sys/bus/pci/devices", none)) {
    const bool display = text_of(device.path() / "class").rfind("0x03", 0) == 0;
    count += display && text_of(device.path() / "vendor").rfind("0x10de", 0) == 0;
  }
  return count;
}

class Doctor {
 public:
  int run() {
    cpu();
    memory_of_the_host();
    libraries();
    gpus();
    return status_;
  }

 private:
  void fine(const std::string& what, const std::string& finding) { print_out("\u2713 {:<12}{}\n", what, finding); }
  void advise(const std::string& what, const std::string& finding) { print_out("! {:<12}{}\n", what, finding); }
  void fail(const std::string& what, const std::string& finding) {
    print_out("\u2717 {:<12}{}\n", what, finding);
    status_ = Error::kRunTime;
  }

  void cpu() {
    const std::string name = field_of(text_of("/proc/cpuinfo"), "model name");
    std::string features;
    const bool fast = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (fast) features += ", AVX2 and FMA";
    if (__builtin_cpu_supports("avx512f")) features += ", AVX-512";
    Settings settings;
    settings.device = Device::cpu;
    const std::string finding =
        fmt::format("{}, {} threads{}", name.empty() ? "unknown" : name, resolve(settings, true).options.target.threads, features);
    if (fast) fine("CPU", finding);
    else advise("CPU", finding + ": without AVX2 training is several times slower, use a newer CPU");
    try {
      fine("OpenBLAS", openblas_description());
    } catch (const Error& error) {
      fail("OpenBLAS", error.sentence(option_of));
    }
  }

  void memory_of_the_host() {
    const std::string facts = text_of("/proc/meminfo");
    const Bytes total = kilobytes_of(facts, "MemTotal"), free = kilobytes_of(facts, "MemAvailable");
    if (total == 0) return advise("memory", "the system does not say: choose --budget yourself");
    fine("memory", fmt::format("{} of {} free", human(free), human(total)));
    fits(Device::cpu, 0, free);
  }

  // Finds the largest preset that trains in `bytes`, and its largest batch up to the recipe's.
  void fits(Device device, int gpu, Bytes bytes) {
    const bool cpu = device == Device::cpu;
    const std::string name = cpu ? "cpu" : fmt::format("cuda:{}", gpu);
    for (const char* preset : {"full", "small", "tiny"}) {
      Settings settings;
      settings.architecture = preset, settings.device = device, settings.gpu = gpu, settings.batch = 0, settings.budget = bytes;
      const Resolved r = resolve(settings, true);
      const std::int64_t batch = largest_batch(r.architecture, r.options, r.budget, r.options.batch);
      if (batch == 0) continue;
      const std::string settings_that_fit = fmt::format("--arch {} --device {} --batch {} --seq {} --budget {}M", preset, name,
                                                        batch, r.options.window, bytes / 1'000'000);
      return fine("fits", settings_that_fit + (cpu ? "; a CPU learns tiny in minutes, larger models in days" : ""));
    }
    advise("fits", fmt::format("no preset fits into the free memory of {}: end other programs", name));
  }

  void libraries() {
    fine("libraries",
         fmt::format("fmt {}.{}.{}, CLI11 {}, nlohmann/json {}.{}.{}, FlatBuffers {}.{}.{}, xxHash {}.{}.{}, mimalloc {}.{}.{}, "
                     "libedit {}.{}",
                     FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100, CLI11_VERSION, NLOHMANN_JSON_VERSION_MAJOR,
                     NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH, FLATBUFFERS_VERSION_MAJOR, FLATBUFFERS_VERSION_MINOR,
                     FLATBUFFERS_VERSION_REVISION, XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE, mi_version() / 100,
                     mi_version() / 10 % 10, mi_version() % 10, LIBEDIT_MAJOR, LIBEDIT_MINOR));
  }

  void gpus() {
    const std::string driver = driver_version();
    const int there = cards();
    if (!driver.empty()) fine("driver", driver);
    else if (there > 0) advise("driver", "there is an NVIDIA card but no driver: install NVIDIA's driver to use it");
#ifdef NEUROGEN_CUDA
    fine("CUDA", CudaDevice::versions());
    try {
      const int count = CudaDevice::count();
      if (count == 0) fine("GPU", "none usable: training runs on the CPU");
      for (int ordinal = 0; ordinal < count; ++ordinal) gpu(ordinal);
      if (count > 1) several(count);
    } catch (const Error& error) {
      fail("GPU", error.sentence(option_of));
    }
#else
    if (there > 0 || !driver.empty())
      advise("GPU", "this build has no CUDA: install the CUDA toolkit and build with make CUDA=native");
    else fine("GPU", "none: training runs on the CPU");
#endif
  }

#ifdef NEUROGEN_CUDA
  void several(int gpus) {
    const std::string use = fmt::format(": train --gpus {} trains on all of them", gpus);
    if (Peers::linked(gpus)) return fine("NVLink", "connects the GPUs" + use);
    try {
      const HeapCapLifted loading;
      fine("NCCL", Nccl::version() + use);
    } catch (const Error& error) {
      advise("NCCL", error.sentence(option_of));
    }
  }

  // Starts on the GPU, so that a tick means training works there.
  void gpu(int ordinal) {
    try {
      Bytes left = 0;
      {
        const HeapCapLifted starting;
        const CudaDevice device(ordinal);
        const Bytes total = device.total_memory(), ours = device.used_by_us();
        left = std::min(total, device.free_memory() + ours);
        fine("GPU", fmt::format("{} {}, compute capability {}.{}, {} multiprocessors", ordinal, device.name(),
                                device.capability() / 10, device.capability() % 10, device.multiprocessors()));
        fine("GPU memory", fmt::format("{} of {} free, {} used by others; starting this program takes {}", human(left),
                                       human(total), human(total - left), human(ours)));
      }
      fits(Device::cuda, ordinal, left);
    } catch (const Error& error) {
      fail("GPU", fmt::format("{} {}", ordinal, error.sentence(option_of)));
    }
  }
#endif

  int status_ = 0;
};

}  // namespace

void add_doctor(CLI::App& app, int& status) {
  app.callback([&status] { status = Doctor().run(); });
}

}  // namespace neurogen

// A target for libFuzzer: any bytes as a checkpoint, unchanged and with the manifest's checksum corrected.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/hostile/hostile.h"

namespace {

// Errors with a sentence are fine; anything else, above all a crash, is a finding.
void open_it(const std::string& bytes) {
  static const int file = memfd_create("hostile", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
  try {
    const neurogen::Checkpoint checkpoint(path);
    checkpoint.verify();
  } catch (const neurogen::Error& error) {
    const std::string sentence = error.what();
    if (sentence.starts_with(path) && sentence.find('\n') == sentence.npos) return;
    std::fprintf(stderr, "no sentence: %s\n", sentence.c_str());
    std::abort();
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

// Nearly always changes the manifest: otherwise libFuzzer would spend its time on the weights, where every value is valid.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  const std::size_t manifest = neurogen::manifest_bytes({reinterpret_cast<const char*>(data), size});
  if (manifest == 0 || std::minstd_rand(seed)() % 16 == 0) return LLVMFuzzerMutate(data, size, most);
  return std::max(size, LLVMFuzzerMutate(data, manifest, manifest));
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  open_it(bytes);
  neurogen::seal(bytes);
  open_it(bytes);
  return 0;
}

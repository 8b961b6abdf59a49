// A fuzz target: any bytes as a checkpoint, as they are and with the manifest's checksum put right. The function has
// libFuzzer's name, for those who have Clang; fuzz_main.cpp drives it without.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/hostile/hostile.h"

namespace {

// Errors are sentences; all else, a crash above all, is a finding.
void open_it(const std::string& bytes) {
  static const int file = memfd_create("hostile", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
  try {
    const neurogen::Checkpoint checkpoint(path);
    checkpoint.verify(checkpoint.tensors().size());
  } catch (const neurogen::Error& error) {
    const std::string sentence = error.what();
    if (sentence.starts_with(path) && sentence.find('\n') == sentence.npos) return;
    std::fprintf(stderr, "no sentence: %s\n", sentence.c_str());
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  open_it(bytes);
  neurogen::seal(bytes);
  open_it(bytes);
  return 0;
}

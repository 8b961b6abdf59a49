// Drives a fuzz target without libFuzzer: fuzz_checkpoint SECONDS SEED FILE... changes the files at random until time is up.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::string changed(const std::string& original, std::mt19937_64& random) {
  static constexpr std::array<std::uint64_t, 10> kValues = {
      0, 1, 2, 0x7F, 0xFF, 0x7FFF'FFFF, 0x8000'0000, INT64_MAX, UINT64_MAX, UINT64_MAX - 255};
  std::string bytes = original;
  for (std::uint64_t changes = 1 + random() % 6; changes > 0 && !bytes.empty(); --changes) {
    // Nearly always where the manifest lies.
    const std::size_t at = random() % (random() % 16 ? std::min<std::size_t>(bytes.size(), 14'000) : bytes.size());
    const std::size_t rest = bytes.size() - at, size = std::min<std::size_t>(rest, std::size_t{1} << random() % 4);
    switch (random() % 8) {
      case 0: bytes[at] = static_cast<char>(random()); break;
      case 1:
      case 2: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8)); break;
      case 3:
      case 4: std::memcpy(bytes.data() + at, &kValues[random() % kValues.size()], size); break;
      case 5: bytes.replace(at, size, bytes, random() % (bytes.size() - size + 1), size); break;
      case 6: bytes.insert(at, bytes, random() % bytes.size(), random() % 64); break;
      default: random() % 8 ? bytes.erase(at, random() % 64) : bytes.erase(at);
    }
  }
  return bytes;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return std::fputs("usage: fuzz_checkpoint SECONDS SEED FILE...\n", stderr), 2;
  std::vector<std::string> corpus;
  for (int i = 3; i < count; ++i) {
    std::ifstream file(arguments[i], std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (corpus.back().empty()) return std::fprintf(stderr, "fuzz_checkpoint: %s is empty or missing\n", arguments[i]), 2;
  }
  std::mt19937_64 random(std::strtoull(arguments[2], nullptr, 10));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[1]));
  long inputs = 0;
  for (; std::chrono::steady_clock::now() < end; ++inputs) {
    const std::string input = changed(corpus[random() % corpus.size()], random);
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  }
  std::printf("%ld inputs, no finding\n", inputs);
}

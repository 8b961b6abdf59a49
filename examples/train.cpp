// Trains a brain on the bytes of a file and generates a continuation:  train FILE [STEPS]
#include <neurogen/engine.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

int main(int count, char** words) {
  std::ifstream file(count > 1 ? words[1] : "", std::ios::binary);
  const std::vector<unsigned char> bytes{std::istreambuf_iterator<char>(file), {}};
  neurogen::EngineOptions options;
  options.architecture = "tiny", options.device = neurogen::Device::cpu, options.budget = 400'000'000;
  options.batch = 4, options.window = 32, options.steps = count > 2 ? std::atol(words[2]) : 50;
  if (bytes.size() < 34) return std::fprintf(stderr, "train: no text: name a file of 34 bytes or more\n"), 2;

  neurogen::Result<neurogen::Engine> made = neurogen::Engine::create(options);
  if (!made) return std::fprintf(stderr, "train: %s\n", made.failure().sentence.c_str()), 1;
  neurogen::Engine& engine = made.value();
  std::vector<std::int32_t> inputs, targets, said(60);
  for (std::int64_t i = 0; i < options.steps; ++i) {
    inputs.clear(), targets.clear();
    for (int sequence = 0; sequence < 4; ++sequence) {
      const std::size_t begin = static_cast<std::size_t>(i * 4 + sequence) * 32 % (bytes.size() - 32);
      inputs.insert(inputs.end(), bytes.begin() + begin, bytes.begin() + begin + 32);
      targets.insert(targets.end(), bytes.begin() + begin + 1, bytes.begin() + begin + 33);
    }
    const auto step = engine.train_step_batch(inputs, targets);
    if (!step) return std::fprintf(stderr, "train: %s\n", step.failure().sentence.c_str()), 1;
    if (i % 10 == 9) std::printf("step %ld  loss %.3f\n", static_cast<long>(i + 1), step->loss);
  }
  for (std::size_t i = 0, made = engine.generate(inputs, said).value(); i < made; ++i) std::putchar(said[i]);
  std::printf("\nallocations since construction: %lu\n", static_cast<unsigned long>(engine.allocations_since_construction()));
}

// A target for libFuzzer: any bytes as a GGUF file of a model.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "arena/error.h"
#include "engine/data/tokenizer.h"
#include "engine/data/tokenizer_gguf.h"
#include "engine/model/pretrained.h"

// Errors with a sentence are fine; anything else, above all a crash, is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int file = memfd_create("hostile", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  try {
    const neurogen::Gguf gguf(path);
    std::vector<float> first(1), last(1);
    for (const neurogen::EncodedTensor& tensor : gguf.tensors()) {
      tensor.read(0, 1, first);
      tensor.read(tensor.elements() - 1, 1, last);
    }
    for (const std::string_view key : gguf.keys())
      if (key.ends_with("tokens")) gguf.texts(key);
    if (neurogen::has_gguf_tokenizer(gguf)) neurogen::tokenizer_of(gguf)->encode("It's 7\n");
    const auto model = neurogen::open_pretrained(path);
    model->read("embedding.weight", 0, first);
  } catch (const neurogen::Error& error) {
    const std::string sentence = error.what();
    if (sentence.starts_with(path) && sentence.find('\n') == sentence.npos) return 0;
    std::fprintf(stderr, "no sentence: %s\n", sentence.c_str());
    std::abort();
  }
  return 0;
}

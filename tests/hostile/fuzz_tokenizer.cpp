// A target for libFuzzer: any bytes as a tokenizer's file; what is accepted must encode and decode.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "arena/error.h"
#include "engine/data/tokenizer.h"

// Errors with a sentence are fine; anything else, above all a crash, is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || data[0] != '{') return 0;  // a SentencePiece model is its library's to read
  static const int file = memfd_create("hostile", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  try {
    const auto tokenizer = neurogen::read_tokenizer(path);
    const auto ids = tokenizer->encode_marked("It's  7\u00E9 o'CLOCK\xFF\r\n\n <|im_start|> naive\n");
    tokenizer->decode(ids);
    if (neurogen::tokenizer_of(tokenizer->model(), path)->encode("It's 7\n") != tokenizer->encode("It's 7\n")) std::abort();
    for (const neurogen::TokenId id : ids)
      if (id < 0 || id >= tokenizer->vocabulary()) std::abort();
  } catch (const neurogen::Error& error) {
    const std::string sentence = error.what();
    if (sentence.find(path) != sentence.npos && sentence.find('\n') == sentence.npos) return 0;
    std::fprintf(stderr, "no sentence: %s\n", sentence.c_str());
    std::abort();
  }
  return 0;
}

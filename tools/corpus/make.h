// corpus make: turns texts of any size into training tokens, held-out tokens, and a manifest that accounts for every document.
#pragma once
#include <string>
#include <vector>

namespace neurogen {

struct MakeSettings {
  std::vector<std::string> paths;  // files, folders, "-" for standard input
  std::string tokenizer, prefix, documents = "file", progress = "auto";
  double held_out = 0.1;
  bool deduplicate = false, replace_invalid = false;
};

// Writes PREFIX-train.bin, PREFIX-valid.bin and, last, PREFIX.json. Texts are read once, in pieces; memory does not grow with their
// size, but for 18 to 37 bytes a different document with `deduplicate` and a folder's list of names.
//
// A hash of its bytes decides whether a document is held out, so that equal documents share a side. A named file, or standard
// input, that is one document gives its last lines instead.
void make_corpus(const MakeSettings& settings);

}  // namespace neurogen

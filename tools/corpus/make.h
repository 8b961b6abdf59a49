// corpus make: from texts of any size to tokens to train on, tokens held out, and a manifest that says what became of everything.
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
// Held out is a fraction of the documents, by a hash of their bytes: a document's side depends on nothing else, and equal ones
// share it. A file or standard input that was named and is one document gives its last lines instead.
void make_corpus(const MakeSettings& settings);

}  // namespace neurogen

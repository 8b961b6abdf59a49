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
  bool chat = false;  // each line is a conversation (conversation.h)
};

// Writes PREFIX-train.bin, PREFIX-valid.bin, for conversations their masks, and, last, PREFIX.json. Reads the texts once, in
// pieces; memory does not grow with their size, except for 18 to 37 bytes per distinct document with `deduplicate`, and a folder's
// list of names.
//
// A hash of its bytes decides whether a document is held out, so equal documents share a side. If a named file or standard input is
// a single document, its last lines are held out instead.
void make_corpus(const MakeSettings& settings);

}  // namespace neurogen

// The files of a corpus: named files, files in folders, standard input.
#pragma once
#include <string>
#include <vector>

#include "arena/bytes.h"

namespace neurogen {

struct SourceFile {
  std::string path;  // "-": standard input
  Bytes bytes = 0;   // 0: not known in advance, as for a pipe
};

// A path from the command line.
struct Source {
  std::string path;
  bool folder = false;
  std::vector<SourceFile> files{};  // for a folder: all regular files in and below it, sorted by the bytes of their names
  std::uint64_t passed_over = 0;    // skipped in a folder: links to folders (which may form cycles), devices, pipes
};

// Throws Error that names what is missing or cannot be read. Memory grows with the number of files, not with their sizes.
std::vector<Source> find_sources(const std::vector<std::string>& paths);

}  // namespace neurogen

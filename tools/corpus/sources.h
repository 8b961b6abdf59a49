// The files of a corpus: named ones, those in folders, standard input.
#pragma once
#include <string>
#include <vector>

#include "arena/bytes.h"

namespace neurogen {

struct SourceFile {
  std::string path;  // "-": standard input
  Bytes bytes = 0;   // 0 where it is not known before: a pipe
};

// A path of the command line.
struct Source {
  std::string path;
  bool folder = false;
  std::vector<SourceFile> files{};  // of a folder: all regular files in and below it, sorted by the bytes of their names
  std::uint64_t passed_over = 0;    // in a folder: links to folders (they may form circles), devices, pipes
};

// Throws Error that names what is missing or cannot be read. Memory grows with the number of files, not with their sizes.
std::vector<Source> find_sources(const std::vector<std::string>& paths);

}  // namespace neurogen

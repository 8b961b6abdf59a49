// Where the programs and the files of the source tree lie: beside the test program, in a build and in what `make dist` packs.
#pragma once
#include <filesystem>
#include <string>

namespace neurogen {

inline std::string programs_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }
inline std::string source_folder() { return programs_folder() + "/../source"; }

}  // namespace neurogen

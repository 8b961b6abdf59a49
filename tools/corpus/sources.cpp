#include "tools/corpus/sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "arena/error.h"

namespace neurogen {
namespace {

namespace fs = std::filesystem;

void walk(const fs::path& folder, Source& source) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) entries.push_back(*at);
  if (error)
    throw Error(fmt::format("{} cannot be read: {}: make it readable or name its files", folder.string(), error.message()));
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.path().native() < b.path().native(); });
  for (const fs::directory_entry& entry : entries) {
    if (entry.is_directory(error) && !entry.is_symlink(error)) {
      walk(entry.path(), source);
    } else if (entry.is_regular_file(error)) {
      source.files.push_back({entry.path().string(), entry.file_size(error)});
    } else if (fs::status(entry.path(), error).type() == fs::file_type::not_found ||
               error == std::errc::too_many_symbolic_link_levels) {
      throw Error(fmt::format("{} is a broken link: remove or repair it", entry.path().string()));
    } else if (error) {
      throw Error(fmt::format("{} cannot be read: {}: make it readable or remove it", entry.path().string(), error.message()));
    } else {
      ++source.passed_over;
    }
  }
}

}  // namespace

std::vector<Source> find_sources(const std::vector<std::string>& paths) {
  std::vector<Source> sources;
  for (const std::string& path : paths) {
    Source& source = sources.emplace_back(Source{path});
    const std::string file = path == "-" ? "/dev/stdin" : path;
    std::error_code error;
    const fs::file_status status = fs::status(file, error);
    if (status.type() == fs::file_type::not_found) throw Error(fmt::format("{} does not exist: check the path", path));
    if (error) throw Error(fmt::format("{} cannot be read: {}", path, error.message()));
    source.folder = fs::is_directory(status);
    if (!source.folder) {
      source.files.push_back({path, fs::is_regular_file(status) ? fs::file_size(file, error) : 0});
      continue;
    }
    walk(path, source);
    if (source.files.empty()) throw Error(fmt::format("{} is a folder without files: name another", path));
  }
  return sources;
}

}  // namespace neurogen

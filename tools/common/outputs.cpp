#include "tools/common/outputs.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <optional>
#include <tuple>

#include "arena/error.h"
#include "engine/files/checkpoint_directory.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

// Equal for all spellings of a file: its device and inode; for a file to be created, those of its directory and its name.
using Identity = std::tuple<dev_t, ino_t, std::string>;

std::optional<Identity> identity_of(const std::string& path, const std::string& name = "") {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return {};
  return Identity{status.st_dev, status.st_ino, name};
}

// An output with its links followed. Empty if the directory does not exist: opening the file will report that.
struct Destination {
  explicit Destination(const std::string& path) {
    PathBuffer buffer{};
    if (path.empty() || path.size() >= buffer.size()) return;
    path.copy(buffer.data(), path.size());
    if (!follow_links(buffer)) return;
    const std::string whole = buffer.data();
    const std::size_t length = directory_length(whole);
    const std::string parent = length == 0 ? "." : whole.substr(0, length);
    name = whole.substr(length);
    directory = identity_of(parent);
    file = identity_of(whole);
    if (!file) file = identity_of(parent, name);
  }
  std::string name;
  std::optional<Identity> directory, file;
};

}  // namespace

std::vector<NamedFile> named(const std::string& name, const std::vector<std::string>& paths) {
  std::vector<NamedFile> files;
  for (const std::string& path : paths) files.push_back({name, path});
  return files;
}

void check_outputs(const std::vector<NamedFile>& inputs, const std::vector<NamedFile>& outputs, const std::string& checkpoints) {
  std::vector<Destination> targets;
  for (const NamedFile& output : outputs) targets.emplace_back(output.path);
  for (const NamedFile& input : inputs) {
    const auto read = identity_of(input.path);
    for (std::size_t o = 0; read && o < outputs.size(); ++o) {
      if (targets[o].file == read)
        throw Error(
            fmt::format("{} would overwrite {}{}, which is read: name another file", outputs[o].name, input.name, input.path));
    }
  }
  const auto saved = checkpoints.empty() ? std::nullopt : identity_of(checkpoints);
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    if (!targets[o].file) continue;
    if (saved && targets[o].directory == saved && is_checkpoint_directory_name(targets[o].name))
      throw Error(
          fmt::format("{} would overwrite {}, which is for checkpoints: name another file", outputs[o].name, outputs[o].path));
    for (std::size_t other = 0; other < o; ++other) {
      if (targets[other].file == targets[o].file) {
        throw Error(fmt::format("{} and {} write the same file {}: give each its own", outputs[other].name, outputs[o].name,
                                outputs[o].path));
      }
    }
  }
}

}  // namespace neurogen

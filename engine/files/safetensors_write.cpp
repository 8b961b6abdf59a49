#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/files/atomic_file.h"
#include "engine/files/safetensors.h"
#include "engine/files/safetensors_header.h"

namespace neurogen {
namespace {

constexpr Bytes kPiece = 4 << 20;  // fetched at a time from memory that the host cannot read

}  // namespace

bool write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                       std::span<const TensorToWrite> tensors, Existing existing) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  Bytes end = 0;
  for (const TensorToWrite& tensor : tensors) {
    if (header.contains(tensor.name) || tensor.name == kMetadata) {
      throw Error(fmt::format("{} cannot be written: the tensor name {} is taken", path, tensor.name));
    }
    const Bytes begin = end;
    end = add(end, size_of(tensor.dtype, tensor.shape));
    const auto type = std::find_if(kSafetensorsTypes.begin(), kSafetensorsTypes.end(),
                                   [&](const auto& known) { return known.second == tensor.dtype; });
    header[tensor.name] = {{"dtype", type->first}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(fmt::format("{} cannot be written: a name or a metadata text is not UTF-8", path));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // aligns the data
  const std::uint64_t length = text.size();
  if (length > kMaxSafetensorsHeader) throw Error(fmt::format("{} cannot be written: its header is over 100 MB", path));
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(text);
  std::vector<std::byte> piece;
  for (const TensorToWrite& tensor : tensors) {
    const Bytes bytes = size_of(tensor.dtype, tensor.shape);
    if (!tensor.read) {
      file.write(tensor.data, bytes);
      continue;
    }
    for (Bytes begin = 0; begin < bytes; begin += piece.size()) {
      piece.resize(std::min(kPiece, bytes - begin));
      tensor.read(begin, piece);
      file.write(piece.data(), piece.size());
    }
  }
  return file.commit(existing);
}

}  // namespace neurogen

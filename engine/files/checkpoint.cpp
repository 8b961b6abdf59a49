#include "engine/files/checkpoint.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <tuple>

#include "arena/error.h"

namespace neurogen {
namespace {

constexpr std::string_view kIdentifier = "NGCK";
constexpr std::size_t kIdentifierAt = 8;  // behind size prefix and root offset

bool starts_as_checkpoint(std::string_view text) {
  return text.size() >= kIdentifierAt && text.substr(kIdentifierAt, kIdentifier.size()) == kIdentifier;
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

bool is_checkpoint(const std::string& path) { return starts_as_checkpoint(MappedFile(path).text()); }

Checkpoint::Checkpoint(const std::string& path) : path_(path), file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  const auto damaged = [&](const std::string& why) {
    return Error(fmt::format("{} is damaged: {}: use the checkpoint before it", path, why));
  };
  if (!starts_as_checkpoint(file_.text())) throw Error(path + " is not a checkpoint: name a file step-*.ngck or its directory");
  std::uint32_t prefix = 0;
  std::memcpy(&prefix, bytes.data(), sizeof prefix);
  const std::size_t size = sizeof prefix + std::size_t{prefix};
  if (size > kLargestManifest) throw damaged("its manifest is larger than 4 MiB");
  if (size > bytes.size()) throw damaged("it is cut short in its manifest");
  // A copy, which nobody can change while it is looked at.
  const std::vector<std::byte> encoded(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
  manifest_ = decode_manifest(encoded, path);
  image_ = image_offset(size);
  const Bytes expected = add(image_, image_bytes(manifest_.tensors));
  if (bytes.size() != expected) {
    throw damaged(fmt::format("it has {} bytes, its manifest promises {}", with_commas(bytes.size()), with_commas(expected)));
  }
  if (!all_zero(bytes.subspan(size, image_ - size))) throw damaged("there is something between manifest and image");
  for (const Buffer& tensor : manifest_.tensors) {
    tensors_.push_back({tensor.name, tensor.dtype, tensor.shape, bytes.subspan(image_ + tensor.offset, tensor.bytes)});
  }
}

const FileTensor* Checkpoint::find(std::string_view name) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const FileTensor& tensor) { return tensor.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

std::vector<std::size_t> Checkpoint::damaged(std::size_t count) const {
  std::vector<char> wrong(count, 0);
  std::atomic<std::size_t> next{0};
  const auto check = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      const std::span<const std::byte> data = tensors_[i].data;
      const Bytes next = next_begin(manifest_.tensors, i) - manifest_.tensors[i].offset;
      const std::span<const std::byte> behind(data.data() + data.size(), next - data.size());
      wrong[i] = XXH3_64bits(data.data(), data.size()) != manifest_.checksums[i] || !all_zero(behind);
    }
  };
  std::vector<std::jthread> others;
  for (unsigned t = 1; t < std::thread::hardware_concurrency(); ++t) others.emplace_back(check);
  check();
  others.clear();  // waits for them
  std::vector<std::size_t> list;
  for (std::size_t i = 0; i < count; ++i) {
    if (wrong[i]) list.push_back(i);
  }
  return list;
}

void Checkpoint::verify(std::size_t count) const {
  const std::vector<std::size_t> list = damaged(count);
  if (list.empty()) return;
  throw Error(fmt::format("{} is damaged: {} {} not what was saved: use the checkpoint before it", path_, tensors_[list[0]].name,
                          list.size() == 1 ? "is" : fmt::format("and {} more tensors are", list.size() - 1)));
}

FileRange Checkpoint::image(const Plan& plan) const {
  std::size_t i = 0;
  for (const Buffer& buffer : plan.buffers) {
    if (buffer.kind != BufferKind::persistent) continue;
    if (i == manifest_.tensors.size()) return {};
    const Buffer& saved = manifest_.tensors[i++];
    const auto place = [](const Buffer& b) { return std::tie(b.name, b.dtype, b.shape, b.offset); };
    if (place(buffer) != place(saved)) return {};
  }
  return {file_.descriptor(), image_, plan.device.persistent, path_.c_str()};
}

}  // namespace neurogen

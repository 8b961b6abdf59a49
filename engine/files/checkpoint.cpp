#include "engine/files/checkpoint.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <tuple>

#include "arena/error.h"
#include "engine/files/finite.h"
#include "kernels/base/thread_pool.h"

namespace neurogen {
namespace {

constexpr std::string_view kIdentifier = "NGCK";
constexpr std::size_t kIdentifierAt = 8;  // after size prefix and root offset
constexpr std::size_t kPiece = 1 << 20;   // bytes that are hashed and checked while they are in a core's cache

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
  if (size > kLargestManifest) throw damaged("its manifest is larger than 16 MiB");
  if (size > bytes.size()) throw damaged("its manifest is cut short");
  // A copy, which cannot change while it is checked.
  const std::vector<std::byte> encoded(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
  manifest_ = decode_manifest(encoded, path);
  image_ = image_offset(size);
  const Bytes expected = add(image_, image_bytes(manifest_.tensors));
  if (bytes.size() != expected) {
    throw damaged(fmt::format("it has {} bytes, its manifest says {}", with_commas(bytes.size()), with_commas(expected)));
  }
  if (!all_zero(bytes.subspan(size, image_ - size))) throw damaged("the bytes between manifest and image are not zero");
  for (const Buffer& tensor : manifest_.tensors) {
    tensors_.push_back({tensor.name, tensor.dtype, tensor.shape, bytes.subspan(image_ + tensor.offset, tensor.bytes)});
  }
}

const FileTensor* Checkpoint::find(std::string_view name) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const FileTensor& tensor) { return tensor.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

std::vector<Checkpoint::Fault> Checkpoint::faults() const {
  std::vector<std::size_t> all(tensors_.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return faults(all);
}

std::vector<Checkpoint::Fault> Checkpoint::faults(const std::vector<std::size_t>& which) const {
  std::vector<Fault> found(which.size(), Fault::none);
  std::atomic<std::size_t> next{0};
  on_threads(cores_of_this_process(), [&](std::int64_t) {
    for (std::size_t i = next++; i < which.size(); i = next++) found[i] = fault(which[i]);
  });
  return found;
}

Checkpoint::Fault Checkpoint::fault(std::size_t tensor) const {
  const FileTensor& t = tensors_[tensor];
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  bool finite = true;
  for (std::size_t at = 0; at < t.data.size(); at += kPiece) {
    const std::span<const std::byte> piece = t.data.subspan(at, std::min(kPiece, t.data.size() - at));
    XXH3_64bits_update(&state, piece.data(), piece.size());
    finite = finite && all_finite(t.dtype, piece);
  }
  const Bytes end = next_begin(manifest_.tensors, tensor) - manifest_.tensors[tensor].offset;
  const std::span<const std::byte> behind(t.data.data() + t.data.size(), end - t.data.size());
  if (XXH3_64bits_digest(&state) != manifest_.checksums[tensor] || !all_zero(behind)) return Fault::damaged;
  return finite ? Fault::none : Fault::not_finite;
}

void Checkpoint::verify() const {
  std::vector<std::size_t> all(tensors_.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  verify(all);
}

void Checkpoint::verify(const std::vector<std::string>& names) const {
  std::vector<std::size_t> which;
  for (const std::string& name : names) {
    if (const FileTensor* tensor = find(name)) which.push_back(static_cast<std::size_t>(tensor - tensors_.data()));
  }
  verify(which);
}

void Checkpoint::verify(const std::vector<std::size_t>& which) const {
  const std::vector<Fault> found = faults(which);
  const auto report = [&](Fault fault, const char* one, const char* several) {
    const auto first = std::find(found.begin(), found.end(), fault);
    if (first == found.end()) return;
    const auto others = std::count(first, found.end(), fault) - 1;
    throw Error(fmt::format("{} is damaged: {} {}: use the checkpoint before it", path_,
                            tensors_[which[static_cast<std::size_t>(first - found.begin())]].name,
                            others == 0 ? one : fmt::format("and {} more tensors {}", others, several)));
  };
  report(Fault::damaged, "differs from what was saved", "differ from what was saved");
  report(Fault::not_finite, "holds values that are not finite", "hold values that are not finite");
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

// A checkpoint: a manifest (manifest.h), zeros to a multiple of 4,096 bytes, and the persistent region of the device arena exactly
// as it is in memory. A CPU maps it copy-on-write; a GPU is filled from it. A file from any device is read on every other. A file
// with another layout than today's plan (another order, other gaps) is copied tensor by tensor, by name.
//
// Nothing in a file is trusted. Opening checks the manifest's structure, checksum and ranges, the file's length and the zeros after
// the manifest; verify() checks the tensors and the bytes between them; whoever loads them compares names and shapes with a plan
// (engine/run/restore.h).
//
// If a mapped file is truncated, its pages are lost: the program then ends with one sentence and status 1 (signals.h); on a GPU
// nothing happens once the file has been read. Our own saves never write to a finished file: they rename new ones into place and
// unlink old ones, which leaves mapped bytes unchanged. A run resumed on a CPU therefore keeps the disk space of its checkpoint
// until it ends, even if the file is deleted.
#pragma once
#include "arena/block.h"
#include "engine/files/manifest.h"
#include "engine/files/safetensors.h"

namespace neurogen {

class Checkpoint {
 public:
  // Throws Error that names the file and what is wrong with it.
  explicit Checkpoint(const std::string& path);

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  const std::vector<FileTensor>& tensors() const { return tensors_; }  // as manifest().tensors
  const FileTensor* find(std::string_view name) const;                 // null if there is none
  Bytes image_begin() const { return image_; }                         // in the file

  // damaged: the checksum does not match, or the bytes up to the next tensor are not zero. not_finite: NaN or infinity, which our
  // runs never save.
  enum class Fault : char { none, damaged, not_finite };
  // Checks every tensor, reading all of them on every core.
  std::vector<Fault> faults() const;
  // Checks all tensors, or those of these names, and throws Error that names the first with a fault. Names that the file lacks are
  // passed over.
  void verify() const;
  void verify(const std::vector<std::string>& names) const;

  // The bytes for the start of a block whose plan places this file's tensors, or the first of them, as the file does; else empty.
  FileRange image(const Plan& plan) const;

 private:
  std::vector<Fault> faults(const std::vector<std::size_t>& which) const;
  void verify(const std::vector<std::size_t>& which) const;
  Fault fault(std::size_t tensor) const;

  std::string path_;
  MappedFile file_;
  Manifest manifest_;
  Bytes image_ = 0;  // where it starts
  std::vector<FileTensor> tensors_;
};

// Whether a file has a checkpoint's identifier. Throws Error as MappedFile.
bool is_checkpoint(const std::string& path);

inline constexpr Bytes kCheckpointAlignment = 4096;  // of the image in the file, so that it can be mapped

// Start of the image after a manifest of `manifest` bytes.
inline Bytes image_offset(Bytes manifest) {
  return add(manifest, kCheckpointAlignment - 1) / kCheckpointAlignment * kCheckpointAlignment;
}

}  // namespace neurogen

// A checkpoint: a manifest (manifest.h), zeros to a multiple of 4,096 bytes, and the persistent region of the device arena as
// it lies in memory, which a CPU maps as its own and a GPU is filled from. One file made on any device is read on every other.
// A file whose tensors lie otherwise than in today's plan (another order, other gaps) is copied tensor by tensor, by name.
//
// Nothing in a file is trusted. Opening one checks the manifest's structure, checksum and ranges, computes the layout again from
// the architecture and compares it name by name, and checks the file's length and the zeros behind the manifest; verify() checks
// the tensors and what lies between them.
//
// Whoever cuts a mapped file short takes its pages from those who mapped it: the program then ends with one sentence and status
// 1 (signals.h), or, on a GPU, once the file has been read, nothing happens. Our own saves never write to a file that has its name:
// they rename new ones into place and unlink old ones, which leaves mapped bytes as they were. So a run that was resumed on a
// CPU keeps the disk space of the file it came from until it ends, even where that is deleted.
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

  // damaged: the bytes are not those that were saved (another checksum), or bytes other than zero follow them. not_finite: NaN or
  // infinity, which no run of ours saves.
  enum class Fault : char { none, damaged, not_finite };
  // Of each of the first `count` tensors. Reads them all, on every core.
  std::vector<Fault> faults(std::size_t count) const;
  // Throws Error that names the first tensor with a fault.
  void verify(std::size_t count) const;

  // The bytes that a block begins with if its plan places the same tensors, or the first of them, as this file does; else empty.
  FileRange image(const Plan& plan) const;

 private:
  Fault fault(std::size_t tensor) const;

  std::string path_;
  MappedFile file_;
  Manifest manifest_;
  Bytes image_ = 0;  // where it starts
  std::vector<FileTensor> tensors_;
};

// Whether a file says that it is a checkpoint. Throws Error as MappedFile.
bool is_checkpoint(const std::string& path);

inline constexpr Bytes kCheckpointAlignment = 4096;  // of the image in the file: pages can be mapped

// Where the image starts behind a manifest of so many bytes.
inline Bytes image_offset(Bytes manifest) {
  return add(manifest, kCheckpointAlignment - 1) / kCheckpointAlignment * kCheckpointAlignment;
}

}  // namespace neurogen

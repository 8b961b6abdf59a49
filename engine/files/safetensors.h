// Safetensors, a file of named tensors (github.com/huggingface/safetensors): the length of a JSON header in 8 bytes, the header,
// then the tensors without gaps. Nothing in a file is trusted.
#pragma once
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arena/tensor_view.h"
#include "engine/files/atomic_file.h"
#include "engine/files/file_io.h"

namespace neurogen {

bool is_floating(DType type);

// A tensor in a mapped file.
struct FileTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::span<const std::byte> data;  // mapped; not aligned to its type: copy, do not cast
  std::int64_t elements() const;
  double real(std::int64_t index) const;           // one element of a floating type
  std::int64_t integer(std::int64_t index) const;  // one element of an integer type
};

class Safetensors {
 public:
  using Tensor = FileTensor;

  // Throws Error that names the file and, if there is one, the tensor, for any inconsistency.
  explicit Safetensors(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }  // in the order of their data
  const Tensor* find(std::string_view name) const;                 // null if there is none
  const Tensor& at(std::string_view name) const;                   // throws Error

  // Copy and convert. Throws Error unless `out` has as many elements as the tensor, and the tensor has a floating-point type
  // (float, double) or an integer type whose values fit (int32).
  void read_as_float(std::string_view name, std::span<float> out) const;
  void read_as_double(std::string_view name, std::span<double> out) const;
  void read_as_int32(std::string_view name, std::span<std::int32_t> out) const;

 private:
  std::string path_;
  MappedFile file_;
  std::map<std::string, std::string> metadata_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

struct TensorToWrite {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  const void* data = nullptr;                                        // contiguous; or null, then
  std::function<void(Bytes begin, std::span<std::byte> to)> read{};  // fetches the bytes piece by piece, from any device
};

// Writes tensors in the given order, atomically (AtomicFile), and returns whether the file is there: false if an existing one was
// kept. Throws Error for a name that occurs twice or cannot be written.
bool write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                       std::span<const TensorToWrite> tensors, Existing existing = Existing::replaced);

}  // namespace neurogen

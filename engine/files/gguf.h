// GGUF, llama.cpp's file of a model (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3, little-endian: counts, named values
// ("metadata"), descriptions of tensors, padding to the alignment, the tensors' data. Nothing in a file is trusted.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/files/atomic_file.h"
#include "engine/files/encoded_tensor.h"
#include "engine/files/file_io.h"

namespace neurogen {

// Whether this is a file that begins as GGUF.
bool is_gguf(const std::string& path);

class Gguf {
 public:
  // Maps and checks all but the values of the weights. Throws Error that names the file and what is wrong with it, also for tensors
  // of a type that is not an Encoding.
  explicit Gguf(const std::string& path);

  const std::string& path() const { return path_; }
  bool has(std::string_view key) const { return values_.find(key) != values_.end(); }
  std::vector<std::string_view> keys() const;
  // One value. Throws Error that names the key: it is missing, or of another type. Views live as long as this object.
  std::string_view text(std::string_view key) const;
  std::int64_t whole(std::string_view key) const;  // any integer type
  double real(std::string_view key) const;         // f32 or f64
  bool flag(std::string_view key) const;
  // A list. Also throws Error for a list of another type.
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<std::int64_t> wholes(std::string_view key) const;
  std::vector<double> reals(std::string_view key) const;
  bool is_list(std::string_view key) const;  // whether it is there, and a list

  const std::vector<EncodedTensor>& tensors() const { return tensors_; }  // in the file's order
  const EncodedTensor* find(std::string_view name) const;                 // null if there is none

 private:
  enum class Type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, list, u64, i64, f64 };
  struct Value {
    Type type, element;   // element: of a list
    std::uint64_t count;  // of a list; 1 otherwise
    const std::byte *begin, *end;
  };
  class Cursor;

  Value read_value(Cursor& cursor, const std::string& key) const;
  EncodedTensor read_tensor(Cursor& cursor, std::uint64_t& offset) const;
  void place(std::span<const std::byte> data, Bytes alignment, const std::vector<std::uint64_t>& offsets);
  Bytes alignment() const;
  // A value or, if `list`, a list of this kind of type.
  const Value& value(std::string_view key, bool list, bool (*is_kind)(Type), const char* kind) const;
  std::vector<std::string_view> texts(std::string_view key, bool list) const;
  std::vector<std::int64_t> wholes(std::string_view key, bool list) const;
  std::vector<double> reals(std::string_view key, bool list) const;
  Error damaged(const std::string& what) const;

  std::string path_;
  MappedFile file_;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<EncodedTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

// Metadata to write: a number is written in this type.
using GgufValue = std::variant<std::uint32_t, std::int32_t, float, bool, std::string, std::vector<std::string>,
                               std::vector<std::int32_t>, std::vector<float>>;
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

struct GgufTensor {
  std::string name;
  Encoding encoding = Encoding::f32;  // not q4_0, q4_1
  Shape shape;                        // row-major; rows are whole blocks
  // Fetches elements from `begin` on, whole blocks of them. Called in order.
  std::function<void(std::int64_t begin, std::span<float> to)> read;
};

// Writes version 3, atomically (AtomicFile), and returns whether the file is there: false if an existing one was kept. Throws Error
// for a number that its type cannot hold.
bool write_gguf(const std::string& path, const GgufMetadata& metadata, std::span<const GgufTensor> tensors,
                Existing existing = Existing::replaced);

}  // namespace neurogen

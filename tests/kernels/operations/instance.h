// A case's operands in a device's memory, each in a piece of its own, exactly as large as it is, so that tools that watch accesses
// see one too far.
#pragma once
#include <fmt/format.h>

#include <new>

#include "tests/kernels/operations/operation.h"
#ifdef NEUROGEN_CUDA
#include "arena/block.h"
#include "kernels/base/cuda_device.h"
#endif

namespace neurogen {

template <typename Device>
struct Piece;

template <>
struct Piece<CpuDevice> {
  explicit Piece(Bytes bytes) : data(static_cast<std::byte*>(::operator new(bytes, std::align_val_t(kAlignment)))) {}
  ~Piece() { ::operator delete(data, std::align_val_t(kAlignment)); }
  Piece(const Piece&) = delete;
  std::byte* data;
};
inline void move(CpuDevice&, const void* from, void* to, Bytes bytes) { std::memcpy(to, from, bytes); }

#ifdef NEUROGEN_CUDA
template <>
struct Piece<CudaDevice> {
  explicit Piece(Bytes bytes) : block(Block::on_gpu(bytes, false)), data(block.data()) {}
  Block block;
  std::byte* data;
};
inline void move(CudaDevice& device, const void* from, void* to, Bytes bytes) { device.copy_now(from, to, bytes); }
#endif

// Bytes of an operand's memory: fences, rows with what stands before and after each.
class Layout {
 public:
  Layout(const Operand& operand, DType type_, Bytes fence_)
      : type(type_),
        fence(static_cast<std::int64_t>(fence_)),
        size(static_cast<std::int64_t>(size_of(type))),
        rows(operand.shape[0]),
        row(std::accumulate(operand.shape.begin() + 1, operand.shape.end(), std::int64_t{1}, std::multiplies<>())),
        before(operand.before),
        pitch(before + row + operand.after) {}
  Bytes bytes() const { return static_cast<Bytes>(2 * fence + rows * pitch * size); }
  std::int64_t at(std::int64_t element) const {
    return fence + (pitch == row ? element : element / row * pitch + before + element % row) * size;
  }
  std::int64_t elements() const { return rows * row; }
  bool plain() const { return type == DType::f64 && pitch == row; }  // as float64 tensors are

  DType type;
  std::int64_t fence, size, rows, row, before, pitch;
};

// Values in an operand's memory.
void load(const Layout& layout, const std::vector<std::byte>& from, Tensor<double>& x);
void save(const Layout& layout, const Tensor<double>& x, std::vector<std::byte>& to);

inline constexpr std::byte kNothing{0xFF}, kSomething{0x3C};  // what memory holds before it is written: NaN or -1, or small numbers
inline constexpr Bytes kFence = 1024;

template <typename Device>
class Instance {
 public:
  // Memory holds the case's initial values and `held` everywhere else; `fence` bytes before and after each operand.
  Instance(Device& device, const Case& c, DType tested, std::byte held = kNothing, Bytes fence = 0)
      : at(c.operands.size()), device_(device), case_(c) {
    for (std::size_t i = 0; i < c.operands.size(); ++i) {
      const Operand& operand = c.operands[i];
      layouts.emplace_back(operand, type_of(operand.stored, tested), fence);
      const Layout& layout = layouts.back();
      pieces_.push_back(std::make_unique<Piece<Device>>(layout.bytes()));
      std::vector<std::byte> bytes(layout.bytes(), held);
      save(layout, c.initial(Id{i}, tested), bytes);
      move(device, bytes.data(), pieces_.back()->data, bytes.size());
      TensorView& view = at.views[i] = make_view(pieces_.back()->data + layout.at(0), layout.type, operand.shape);
      view.row_stride = layout.pitch;
    }
  }

  void run(std::size_t steps = static_cast<std::size_t>(-1)) {
    for (std::size_t i = 0; i < std::min(steps, case_.steps.size()); ++i) case_.steps[i].run(device_, at);
  }
  // Of all operands but scratch, or of those that may change.
  Values values(bool inputs = true) const {
    Values result(layouts.size());
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      const Use use = case_.operands[i].use;
      if (use == Use::scratch || (use == Use::input && !inputs)) continue;
      result[Id{i}] = Tensor<double>(case_.operands[i].shape, 0);
      load(layouts[i], memory(i), result[Id{i}]);
    }
    return result;
  }
  // Operands without values stay as they are.
  void set(const Values& values) {
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      if (values[Id{i}].data.empty()) continue;
      std::vector<std::byte> bytes = memory(i);
      save(layouts[i], values[Id{i}], bytes);
      move(device_, bytes.data(), pieces_[i]->data, bytes.size());
    }
  }
  // All bytes of an operand's memory.
  std::vector<std::byte> memory(std::size_t i) const {
    std::vector<std::byte> bytes(layouts[i].bytes());
    move(device_, pieces_[i]->data, bytes.data(), bytes.size());
    return bytes;
  }

  Operands at;
  std::vector<Layout> layouts;

 private:
  Device& device_;
  const Case& case_;
  std::vector<std::unique_ptr<Piece<Device>>> pieces_;
};

}  // namespace neurogen

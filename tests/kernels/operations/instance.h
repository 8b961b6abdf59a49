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
  std::int64_t at(std::int64_t element) const { return fence + (element / row * pitch + before + element % row) * size; }
  std::int64_t elements() const { return rows * row; }

  DType type;
  std::int64_t fence, size, rows, row, before, pitch;
};

double load(const std::byte* from, DType type);
void save(double value, std::byte* to, DType type);

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
      encode(layout, c.initial(Id{i}, tested), bytes);
      move(device, bytes.data(), pieces_.back()->data, bytes.size());
      TensorView& view = at.views[i] = make_view(pieces_.back()->data + layout.at(0), layout.type, operand.shape);
      view.row_stride = layout.pitch;
    }
  }

  void run() {
    for (const Step& step : case_.steps) step.run(device_, at);
  }
  Values values() const {
    Values result(layouts.size());
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      const std::vector<std::byte> bytes = memory(i);
      Tensor<double>& x = result[Id{i}] = Tensor<double>(case_.operands[i].shape, 0);
      for (std::int64_t e = 0; e < layouts[i].elements(); ++e)
        x[e] = load(&bytes[static_cast<std::size_t>(layouts[i].at(e))], layouts[i].type);
    }
    return result;
  }
  void set(const Values& values) {
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      std::vector<std::byte> bytes = memory(i);
      encode(layouts[i], values[Id{i}], bytes);
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
  static void encode(const Layout& layout, const Tensor<double>& x, std::vector<std::byte>& bytes) {
    for (std::int64_t e = 0; e < static_cast<std::int64_t>(x.data.size()); ++e)
      save(x[e], &bytes[static_cast<std::size_t>(layout.at(e))], layout.type);
  }

  Device& device_;
  const Case& case_;
  std::vector<std::unique_ptr<Piece<Device>>> pieces_;
};

}  // namespace neurogen

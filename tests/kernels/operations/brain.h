// What the brain's operations share: parts of a module, wirings, and the logistic function.
#pragma once
#include "kernels/brain/synapses.h"
#include "kernels/copy.h"
#include "tests/kernels/operations/operation.h"

namespace neurogen {

inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// A range of column groups in a section of tokens.
struct Part {
  std::int64_t group, groups, token, tokens;

  // Of [N, ...], of [32G], of [N, 32G].
  TensorView rows(const TensorView& x) const { return x ? x.rows(token, tokens) : x; }
  TensorView range(const TensorView& x) const { return x.rows(group * kGroup, groups * kGroup); }
  TensorView columns(const TensorView& x) const { return x ? x.columns(group * kGroup, groups * kGroup) : x; }
  TensorView of(const TensorView& x) const { return columns(rows(x)); }
  // Memory of [G, N, C] as a tensor of the part alone, filled with the part of the whole, and back. A part that is the whole needs
  // none.
  TensorView packed(const TensorView& x) const { return make_view(x.data, x.dtype, {groups, tokens, x[2]}); }
  template <typename Device>
  TensorView pack(Device& device, const TensorView& whole, const TensorView& memory) const {
    if (whole[0] == groups && whole[1] == tokens) return whole;
    for (std::int64_t g = 0; g < groups; ++g) copy(device, at(whole, group + g, token), at(packed(memory), g, 0));
    return packed(memory);
  }
  template <typename Device>
  void unpack(Device& device, const TensorView& from, const TensorView& whole) const {
    for (std::int64_t g = 0; g < groups; ++g) copy(device, at(packed(from), g, 0), at(whole, group + g, token));
  }

 private:
  TensorView at(const TensorView& x, std::int64_t g, std::int64_t from) const {
    return x.rows(g, 1).reshaped({x[1], x[2]}).rows(from, tokens);
  }
};

// Two ranges, the first one last, of two sections; ranges are multiples of `range` groups, sections of `section` tokens.
std::vector<Part> parts_of(std::int64_t groups, std::int64_t range, std::int64_t tokens, std::int64_t section);

// A module's sources and what reads them.
struct Wiring {
  std::vector<Id> sources, d_sources;
  Id wiring, first, reader_start, readers;
  std::int64_t blocks = 0;

  static Sources of(const Operands& at, const std::vector<Id>& all, std::int64_t token, std::int64_t tokens);
};
// [G, slots] source blocks of `width`, of modules of these widths.
Wiring wire(Case& c, std::int64_t groups, std::int64_t slots, std::int64_t width, std::int64_t tokens, std::int64_t window,
            const std::vector<std::int64_t>& widths);
// And what the backward pass adds. `stored`: bits of the sources whose gradients are written, not added to.
void wire_back(Case& c, Wiring& wiring, unsigned stored = 0);

}  // namespace neurogen

#include "tests/kernels/operations/brain.h"

namespace neurogen {

std::vector<Part> parts_of(std::int64_t groups, std::int64_t range, std::int64_t tokens, std::int64_t section) {
  const std::int64_t range_end = groups / range / 2 * range, section_end = (tokens / section + 1) / 2 * section;
  std::vector<Part> parts;
  for (const auto& [token, count] : {std::pair{std::int64_t{0}, section_end}, std::pair{section_end, tokens - section_end}})
    for (const auto& [group, n] : {std::pair{range_end, groups - range_end}, std::pair{std::int64_t{0}, range_end}})
      if (n > 0 && count > 0) parts.push_back({group, n, token, count});
  return parts;
}

Sources Wiring::of(const Operands& at, const std::vector<Id>& all, std::int64_t token, std::int64_t tokens) {
  Sources result;
  for (const Id id : all) result.outputs[static_cast<std::size_t>(result.count++)] = at[id].rows(token, tokens);
  return result;
}

Wiring wire(Case& c, std::int64_t groups, std::int64_t slots, std::int64_t width, std::int64_t tokens, std::int64_t window,
            const std::vector<std::int64_t>& widths) {
  Wiring w{};
  for (const std::int64_t one : widths) {
    w.sources.push_back(c.input("source", {tokens, one}));
    w.blocks += one / width;
  }
  w.wiring = c.input("wiring", {groups, slots}, below(w.blocks), Stored::i32);
  w.first = c.input("first", {tokens}, documents_in(window), Stored::i32);
  return w;
}

void wire_back(Case& c, Wiring& w, unsigned stored) {
  for (std::size_t i = 0; i < w.sources.size(); ++i) {
    const Shape shape = c[w.sources[i]].shape;
    w.d_sources.push_back(stored >> i & 1 ? c.output("d_source", shape, Stored::gradient)
                                          : c.updated("d_source", shape, noise(), Stored::gradient));
    c[w.d_sources.back()].roundings = 2;  // of weights times taps, or of gradients of sums, and of each slot
  }
  const Shape slots{c[w.wiring].shape[0] * c[w.wiring].shape[1]};
  w.reader_start = c.output("reader_start", {w.blocks + 1}, Stored::i32), w.readers = c.output("readers", slots, Stored::i32);
}

}  // namespace neurogen

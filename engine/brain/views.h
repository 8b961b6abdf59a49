// Internal to engine/brain: parts of bound tensors. A part of an empty view is empty.
#pragma once
#include "engine/brain/trunk.h"

namespace neurogen {

inline TensorView rows_of(const TensorView& view, Section section) { return view ? view.rows(section.begin, section.rows) : view; }
inline TensorView columns_of(const TensorView& view, Tile tile) {
  return view ? view.columns(tile.output(), tile.outputs()) : view;
}
inline TensorView range_of(const TensorView& view, Tile tile) {  // for a vector over outputs
  return view ? view.rows(tile.output(), tile.outputs()) : view;
}
inline TensorView taps_of(const TensorView& view) {  // [2, R, O] as [2R, O]
  return view ? view.reshaped({view[0] * view[1], view[2]}) : view;
}
inline Sources sources_at(const Bindings& at, const std::vector<TensorId>& ids, Section section) {
  Sources sources;
  for (TensorId id : ids) sources.outputs[static_cast<std::size_t>(sources.count++)] = rows_of(at[id], section);
  return sources;
}
// Gradient of a source, in a buffer for the whole batch (the embedding's) or only for this section.
inline TensorView gradient_at(const Bindings& at, TensorId id, Section section) {
  const TensorView view = at[id];
  return view[0] == section.rows ? view : rows_of(view, section);
}
inline Sources gradients_at(const Bindings& at, const std::vector<TensorId>& ids, Section section) {
  Sources sources;
  for (TensorId id : ids) sources.outputs[static_cast<std::size_t>(sources.count++)] = gradient_at(at, id, section);
  return sources;
}

}  // namespace neurogen

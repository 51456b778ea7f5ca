// Where an entry lies, as several named variants ask it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/fail.h"
#include "tilewise/variant.h"

namespace tilewise::zoo {

/// 0 <= place < count. Tables by place are read clamped beside it, so that a place outside is simply not kept.
inline Expr inside(Expr place, std::int32_t count) { return place >= 0 && place < count; }

/// A table with one value for each entry, by the place in the call's own tensors: [s_q, s_kv], [h, s_q, s_kv] or
/// [b, h, s_q, s_kv] by its rank. A stride of 0 shares an axis.
inline Expr read_by_entry(const Table& table, const At& at) {
  switch (table.rank()) {
    case 2: return table(at.query_index, at.key_index);
    case 3: return table(at.head, at.query_index, at.key_index);
    default: return table(at.batch, at.head, at.query_index, at.key_index);
  }
}

/// The coordinates of a position in a grid stored row by row, slowest axis first.
inline std::vector<Expr> coordinates(Expr position, const std::vector<std::int32_t>& extents) {
  std::vector<Expr> result(extents.size(), position);
  for (std::size_t axis = extents.size() - 1; axis > 0; --axis) {
    result[axis] = position % extents[axis];
    position = floor_divide(position, extents[axis]);
  }
  result[0] = position;
  return result;
}

}  // namespace tilewise::zoo

// Splitting rectangles for descending searches.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "core/round_up.h"
#include "variant/interval_program.h"

namespace tilewise::tiles {

/// What a rectangle is cut into: as many as are evaluated at a time.
template <class Rectangle>
struct Parts {
  std::array<Rectangle, variant::kLanes> parts;
  std::size_t count = 0;

  const Rectangle* begin() const { return parts.data(); }
  const Rectangle* end() const { return parts.data() + count; }
};

/// Cuts a rectangle {row_begin, row_end, column_begin, column_end} of more than one cell into 2 to kLanes smaller ones:
/// in halves along both axes, or in quarters along the longer one where it is at least four times as long. All but the
/// last part along an axis are a power of two long, so that cuts of what begins at 0 fall on multiples of the parts,
/// which tables' range indexes answer fastest.
template <class Rectangle>
Parts<Rectangle> split(const Rectangle& whole) {
  const auto [row_begin, row_end, column_begin, column_end] = whole;
  const std::int64_t rows = row_end - row_begin, columns = column_end - column_begin;
  const bool is_tall = rows >= 4 * columns, is_wide = columns >= 4 * rows;
  const auto part_length = [](std::int64_t length, std::int64_t parts) {
    if (parts == 1) return length;
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(ceil_div(length, parts))));
  };
  const std::int64_t row_step = part_length(rows, is_tall ? 4 : is_wide ? 1 : 2);
  const std::int64_t column_step = part_length(columns, is_wide ? 4 : is_tall ? 1 : 2);
  Parts<Rectangle> result;
  for (std::int64_t row = row_begin; row < row_end; row += row_step) {
    for (std::int64_t column = column_begin; column < column_end; column += column_step) {
      result.parts[result.count++] = {row, std::min(row + row_step, row_end), column,
                                      std::min(column + column_step, column_end)};
    }
  }
  return result;
}

}  // namespace tilewise::tiles

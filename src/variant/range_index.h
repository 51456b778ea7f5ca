// Range minima and maxima of a table over boxes of indices, so that the interval reading can bound table reads.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "variant/bindings.h"
#include "variant/interval.h"

namespace tilewise::variant {

/// One number for each axis of a table.
using TableIndex = std::array<std::int64_t, kMaxRank>;

/// Bounds of a table's elements over any axis-aligned box of indices, built in O(n) time and memory.
///
/// A wide axis is one along which boxes are long. Its elements are grouped in blocks of kBlock, and the blocks in a
/// binary hierarchy: cells of 1, 2, 4, ... blocks. Hierarchies of several wide axes are independent (as in a ripmap),
/// so that a long thin box is as cheap as a square one. Along other axes there is neither blocking nor hierarchy.
///
/// A query reads at most kMaxScanned elements of the table itself and kMaxCells cells (more only for long ranges along
/// axes that were not declared wide). It is exact
///   - for boxes of at most kMaxScanned elements;
///   - for boxes of a single index along all axes but a wide one, so always in one dimension;
///   - for boxes whose bounds along each wide axis are multiples of kBlock (or the axis' end) and which at most
///     kMaxCells cells tile; one cell does for sides that are powers of two from kBlock on, aligned to their size.
/// Otherwise the box is widened to the smallest cells with which the limits hold.
class RangeIndex {
 public:
  static constexpr std::int64_t kBlock = 8;
  static constexpr std::int64_t kMaxScanned = 64;
  static constexpr std::int64_t kMaxCells = 64;
  static constexpr std::int64_t kAlwaysScanned = 4;  // so few elements are read faster than a cell is found

  /// Keeps a view of the table's data, which must stay where and as it is.
  RangeIndex(const BoundTable& table, const std::array<bool, kMaxRank>& wide);

  /// Bounds of the elements from `first` to `last`, both inclusive and inside the extents, as float32 and float64
  /// readings see them. Where all of them are NaN: any real. kRank is the table's rank, and the table is not empty.
  template <std::size_t kRank>
  void over(const std::array<std::int64_t, kRank>& first, const std::array<std::int64_t, kRank>& last,
            Interval& bounds) const;

 private:
  // Inside, a table has kMaxRank axes, so that loops are always nested as deep: those before first_axis_ have extent 1
  // and the table's own come last.
  struct Level {
    std::int64_t offset, count;  // its first cell along the axis' line of cells, and how many there are
  };
  struct Axis {
    std::int64_t extent = 1;
    std::int64_t step = 0;  // bytes between elements
    int block_shift = 0;    // log2 of the elements in a block
    int level_count = 0;
    std::array<Level, 32> levels{};  // from single blocks up: 29 for 2^31 elements
    std::int64_t cells = 0;          // of all levels
    std::int64_t stride = 0;         // in cells_

    std::int64_t block() const { return std::int64_t{1} << block_shift; }
  };
  struct Extent {
    TableIndex begin, end;  // half-open
  };
  struct Pieces;

  static std::int64_t elements(const Extent& box);
  void add_levels(Axis& axis, bool wide);
  template <class Load>
  void fill_blocks(Load load);
  void fill_levels();
  Extent aligned_inside(const Extent& box) const;
  Extent aligned_around(const Extent& box) const;
  template <std::size_t kRank>
  void scan(const std::int64_t* begin, const std::int64_t* end, Interval& bounds) const;
  void as_read(Interval& bounds) const;
  Interval scan_edges(const Extent& box, const Extent& inside) const;
  static void tile(const Axis& axis, std::int64_t begin, std::int64_t end, int skipped, Pieces& pieces);
  template <std::size_t kRank>
  const Interval* as_one_cell(const std::int64_t* begin, const std::int64_t* end) const;
  Interval over_cells(const Extent& box) const;
  template <std::size_t kRank>
  Interval over_many(const std::int64_t* begin, const std::int64_t* end, std::int64_t size) const;

  const std::byte* data_ = nullptr;  // [extents]
  std::size_t first_axis_ = 0;
  DType dtype_ = DType::float32;
  std::array<Axis, kMaxRank> axes_;
  std::vector<Interval> cells_;  // [cells of axis 0, cells of axis 1, ...], row-major; low > high where all are NaN
};

/// The cell that is exactly the box along the last kRank axes, or null.
template <std::size_t kRank>
inline const Interval* RangeIndex::as_one_cell(const std::int64_t* begin, const std::int64_t* end) const {
  const Interval* cell = cells_.data();
  for (std::size_t i = 0; i < kRank; ++i) {
    const Axis& axis = axes_[kMaxRank - kRank + i];
    const auto bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(end[i] - begin[i] - 1)));
    const int shift = std::max(bits, axis.block_shift);
    const int level = shift - axis.block_shift;
    const std::int64_t side = std::int64_t{1} << shift;
    const bool is_cell = (begin[i] & (side - 1)) == 0 && (end[i] == begin[i] + side || end[i] == axis.extent) &&
                         level < axis.level_count;
    if (!is_cell) return nullptr;
    cell += (axis.levels[static_cast<std::size_t>(level)].offset + (begin[i] >> shift)) * axis.stride;
  }
  return cell;
}

// Single elements and cells are most of what is asked for. For them nothing is copied or looped over but the rank.
template <std::size_t kRank>
inline void RangeIndex::over(const std::array<std::int64_t, kRank>& first, const std::array<std::int64_t, kRank>& last,
                             Interval& bounds) const {
  std::int64_t end[kRank], size = 1;
  for (std::size_t axis = 0; axis < kRank; ++axis) {
    end[axis] = last[axis] + 1;
    size *= end[axis] - first[axis];
  }
  if (size > kAlwaysScanned) {
    const Interval* cell = as_one_cell<kRank>(first.data(), end);
    if (cell != nullptr) {
      bounds = *cell;
      return as_read(bounds);
    }
    if (size > kMaxScanned) {
      bounds = over_many<kRank>(first.data(), end, size);
      return as_read(bounds);
    }
  }
  scan<kRank>(first.data(), end, bounds);
  as_read(bounds);
}

/// Makes bounds of what is stored bounds of what readings see.
inline void RangeIndex::as_read(Interval& bounds) const {
  if (bounds.low > bounds.high) bounds = kAnyReal;
  if (dtype_ != DType::float64) return;  // float32 and int32 readings hold all others exactly
  bounds.low = round_down(bounds.low);
  bounds.high = round_up(bounds.high);
}

}  // namespace tilewise::variant

// Range minima and maxima of a table over boxes of indices, so that the interval reading can bound table reads.
#pragma once

#include <array>
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
///     kMaxCells cells tile; all boxes do whose sides are powers of two from kBlock on, aligned to their size.
/// Otherwise the box is widened to the smallest cells with which the limits hold.
class RangeIndex {
 public:
  static constexpr std::int64_t kBlock = 8;
  static constexpr std::int64_t kMaxScanned = 64;
  static constexpr std::int64_t kMaxCells = 64;

  /// Keeps a view of the table's data, which must stay where and as it is.
  RangeIndex(const BoundTable& table, const std::array<bool, kMaxRank>& wide);

  /// Bounds of the elements from `first` to `last`, both inclusive and inside the extents, as float32 and float64
  /// readings see them. Where all of them are NaN: any real. An empty table reads as 0.
  Interval over(const TableIndex& first, const TableIndex& last) const;

 private:
  struct Level {
    std::int64_t offset, count;  // its first cell along the axis' line of cells, and how many there are
  };
  struct Axis {
    int block_shift = 0;        // log2 of the elements in a block
    std::vector<Level> levels;  // from single blocks up
    std::int64_t cells = 0;     // of all levels
    std::int64_t stride = 0;    // in cells_
  };
  struct Extent {
    TableIndex begin, end;  // half-open
  };
  struct Pieces;

  Axis make_axis(std::int64_t extent, bool wide) const;
  template <class Load>
  void fill_blocks(Load load);
  void fill_levels();
  const std::byte* address(const TableIndex& index) const;
  std::int64_t elements(const Extent& box) const;
  Extent aligned_inside(const Extent& box) const;
  Extent aligned_around(const Extent& box) const;
  Interval scan(const Extent& box) const;
  Interval scan_edges(const Extent& box, const Extent& inside) const;
  Pieces pieces_of(int axis, std::int64_t begin, std::int64_t end, int coarsest_skipped) const;
  Interval over_cells(const Extent& box) const;

  BoundTable table_;
  std::array<Axis, kMaxRank> axes_;  // [rank]
  std::vector<Interval> cells_;      // [cells of axis 0, cells of axis 1, ...], row-major; low > high where all are NaN
};

}  // namespace tilewise::variant

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
///     kMaxCells cells tile; one cell does for sides that are powers of two from kBlock on, aligned to their size.
/// Otherwise the box is widened to the smallest cells with which the limits hold.
class RangeIndex {
 public:
  static constexpr std::int64_t kBlock = 8;
  static constexpr std::int64_t kMaxScanned = 64;
  static constexpr std::int64_t kMaxCells = 64;

  /// Keeps a view of the table's data, which must stay where and as it is.
  RangeIndex(const BoundTable& table, const std::array<bool, kMaxRank>& wide);

  /// Bounds of the elements from `first` to `last`, both inclusive and inside the extents, as float32 and float64
  /// readings see them. Where all of them are NaN: any real. An empty table reads as 0. kRank is the table's rank.
  template <std::size_t kRank>
  Interval over(const std::array<std::int64_t, kRank>& first, const std::array<std::int64_t, kRank>& last) const;

 private:
  // Inside, a table has kMaxRank axes, so that loops are always nested as deep: those before first_axis_ have extent 1
  // and the table's own come last.
  struct Level {
    std::int64_t offset, count;  // its first cell along the axis' line of cells, and how many there are
  };
  struct Axis {
    std::int64_t extent = 1;
    std::int64_t step = 0;      // bytes between elements
    int block_shift = 0;        // log2 of the elements in a block
    std::vector<Level> levels;  // from single blocks up
    std::int64_t cells = 0;     // of all levels
    std::int64_t stride = 0;    // in cells_

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
  Interval scan(const std::int64_t* begin, const std::int64_t* end) const;
  Interval scan_edges(const Extent& box, const Extent& inside) const;
  static void tile(const Axis& axis, std::int64_t begin, std::int64_t end, int skipped, Pieces& pieces);
  template <std::size_t kRank>
  const Interval* as_one_cell(const std::int64_t* begin, const std::int64_t* end) const;
  Interval over_cells(const Extent& box) const;
  Interval over_parts(const Extent& box, std::int64_t size) const;

  const std::byte* data_ = nullptr;  // [extents]
  std::size_t first_axis_ = 0;
  DType dtype_ = DType::float32;
  std::array<Axis, kMaxRank> axes_;
  std::vector<Interval> cells_;  // [cells of axis 0, cells of axis 1, ...], row-major; low > high where all are NaN
};

}  // namespace tilewise::variant

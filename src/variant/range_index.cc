#include "variant/range_index.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/half.h"

namespace tilewise::variant {
namespace {

constexpr int kBlockShift = std::countr_zero(static_cast<std::uint64_t>(RangeIndex::kBlock));
constexpr Interval kNothing{kUnbounded, -kUnbounded, false};  // the hull of no values

/// Loads an element as a double. Types, not functions, so that the loops over them are compiled for each.
template <class Stored>
struct Load {
  double operator()(const std::byte* element) const {
    Stored value;
    std::memcpy(&value, element, sizeof value);
    return static_cast<double>(value);
  }
};

struct LoadBool {
  double operator()(const std::byte* element) const { return *element != std::byte{0} ? 1 : 0; }
};

/// Calls `use` with the loader of a dtype.
template <class Use>
void with_loader(DType dtype, Use use) {
  switch (dtype) {
    case DType::float64: return use(Load<double>{});
    case DType::float32: return use(Load<float>{});
    case DType::float16: return use(Load<Float16>{});
    case DType::bfloat16: return use(Load<Bfloat16>{});
    case DType::int64: return use(Load<std::int64_t>{});
    case DType::int32: return use(Load<std::int32_t>{});
    case DType::int8: return use(Load<std::int8_t>{});
    case DType::uint8: return use(Load<std::uint8_t>{});
    case DType::boolean: return use(LoadBool{});
  }
}

void include(Interval& bounds, double value) {
  bounds.low = value < bounds.low ? value : bounds.low;
  bounds.high = value > bounds.high ? value : bounds.high;
  bounds.may_be_nan |= std::isnan(value);
}

/// Calls `visit(index)` for the first element of each row along the last axis of a box that is not empty.
template <class Visit>
void for_each_row(int rank, const TableIndex& begin, const TableIndex& end, Visit visit) {
  const auto last = static_cast<std::size_t>(rank - 1);
  TableIndex index = begin;
  for (;;) {
    visit(index);
    std::size_t axis = last;
    for (;;) {
      if (axis-- == 0) return;
      if (++index[axis] < end[axis]) break;
      index[axis] = begin[axis];
    }
  }
}

std::size_t at(int axis) { return static_cast<std::size_t>(axis); }

}  // namespace

RangeIndex::RangeIndex(const BoundTable& table, const std::array<bool, kMaxRank>& wide) : table_(table) {
  if (table.is_empty()) return;
  std::int64_t cells = 1;
  for (int axis = table.rank - 1; axis >= 0; --axis) {
    axes_[at(axis)] = make_axis(table.extents[at(axis)], wide[at(axis)]);
    axes_[at(axis)].stride = cells;
    cells *= axes_[at(axis)].cells;
  }
  cells_.assign(static_cast<std::size_t>(cells), kNothing);
  with_loader(table.dtype, [this](auto load) { fill_blocks(load); });
  fill_levels();
}

RangeIndex::Axis RangeIndex::make_axis(std::int64_t extent, bool wide) const {
  Axis axis;
  axis.block_shift = wide && extent >= 2 * kBlock ? kBlockShift : 0;
  std::int64_t count = (extent + (std::int64_t{1} << axis.block_shift) - 1) >> axis.block_shift;
  for (;;) {
    axis.levels.push_back({axis.cells, count});
    axis.cells += count;
    if (!wide || count == 1) return axis;
    count = (count + 1) / 2;
  }
}

template <class Load>
void RangeIndex::fill_blocks(Load load) {
  const auto last = at(table_.rank - 1);
  const std::int64_t step = table_.strides[last] * size_of(table_.dtype);
  const std::int64_t block = std::int64_t{1} << axes_[last].block_shift;
  for_each_row(table_.rank, TableIndex{}, table_.extents, [&](const TableIndex& index) {
    const std::byte* element = address(index);
    std::int64_t cell = 0;
    for (std::size_t axis = 0; axis < last; ++axis)
      cell += (index[axis] >> axes_[axis].block_shift) * axes_[axis].stride;
    for (std::int64_t first = 0; first < table_.extents[last]; first += block, ++cell) {
      Interval bounds = kNothing;
      const std::int64_t limit = std::min(first + block, table_.extents[last]);
      for (std::int64_t i = first; i < limit; ++i, element += step) include(bounds, load(element));
      Interval& known = cells_[static_cast<std::size_t>(cell)];
      known = hull(known, bounds);
    }
  });
}

const std::byte* RangeIndex::address(const TableIndex& index) const {
  return table_.address({index.data(), at(table_.rank)});
}

void RangeIndex::fill_levels() {
  // Cells along a line that repeats over everything before the axis (outer) and behind it (inner). Axes that come later
  // have only their blocks by then, but filling their other cells with "nothing" does no harm: they are overwritten.
  for (int axis = 0; axis < table_.rank; ++axis) {
    const Axis& line = axes_[at(axis)];
    const std::int64_t inner = line.stride, repeat = line.stride * line.cells;
    for (std::int64_t outer = 0; outer < static_cast<std::int64_t>(cells_.size()); outer += repeat) {
      for (std::size_t level = 1; level < line.levels.size(); ++level) {
        const Level parents = line.levels[level], children = line.levels[level - 1];
        for (std::int64_t i = 0; i < parents.count; ++i) {
          Interval* parent = &cells_[static_cast<std::size_t>(outer + (parents.offset + i) * inner)];
          const Interval* left = &cells_[static_cast<std::size_t>(outer + (children.offset + 2 * i) * inner)];
          const Interval* right = 2 * i + 1 < children.count ? left + inner : left;
          for (std::int64_t j = 0; j < inner; ++j) parent[j] = hull(left[j], right[j]);
        }
      }
    }
  }
}

std::int64_t RangeIndex::elements(const Extent& box) const {
  std::int64_t count = 1;
  for (int axis = 0; axis < table_.rank; ++axis)
    count *= std::max<std::int64_t>(box.end[at(axis)] - box.begin[at(axis)], 0);
  return count;
}

RangeIndex::Extent RangeIndex::aligned_inside(const Extent& box) const {
  Extent inside = box;
  for (std::size_t axis = 0; axis < at(table_.rank); ++axis) {
    const std::int64_t mask = (std::int64_t{1} << axes_[axis].block_shift) - 1;
    inside.begin[axis] = (box.begin[axis] + mask) & ~mask;
    if (box.end[axis] != table_.extents[axis]) inside.end[axis] = box.end[axis] & ~mask;
  }
  return inside;
}

RangeIndex::Extent RangeIndex::aligned_around(const Extent& box) const {
  Extent around = box;
  for (std::size_t axis = 0; axis < at(table_.rank); ++axis) {
    const std::int64_t mask = (std::int64_t{1} << axes_[axis].block_shift) - 1;
    around.begin[axis] = box.begin[axis] & ~mask;
    around.end[axis] = std::min((box.end[axis] + mask) & ~mask, table_.extents[axis]);
  }
  return around;
}

Interval RangeIndex::scan(const Extent& box) const {
  Interval bounds = kNothing;
  const std::int64_t step = table_.strides[at(table_.rank - 1)] * size_of(table_.dtype);
  const std::int64_t count = box.end[at(table_.rank - 1)] - box.begin[at(table_.rank - 1)];
  with_loader(table_.dtype, [&](auto load) {
    for_each_row(table_.rank, box.begin, box.end, [&](const TableIndex& index) {
      const std::byte* element = address(index);
      for (std::int64_t i = 0; i < count; ++i, element += step) include(bounds, load(element));
    });
  });
  return bounds;
}

/// Scans what of the box is not inside: axis by axis the parts before and behind, as far as earlier axes left them.
Interval RangeIndex::scan_edges(const Extent& box, const Extent& inside) const {
  Interval bounds = kNothing;
  Extent rest = box;
  for (std::size_t axis = 0; axis < at(table_.rank); ++axis) {
    Extent before = rest, behind = rest;
    before.end[axis] = inside.begin[axis];
    behind.begin[axis] = inside.end[axis];
    if (elements(before) > 0) bounds = hull(bounds, scan(before));
    if (elements(behind) > 0) bounds = hull(bounds, scan(behind));
    rest.begin[axis] = inside.begin[axis];
    rest.end[axis] = inside.end[axis];
  }
  return bounds;
}

/// The cells that tile a range along one axis, as offsets into cells_.
struct RangeIndex::Pieces {
  // Two for each level of a wide axis: with blocks of 8, an axis of 2^31 elements has 29 levels.
  std::array<std::int64_t, 64> cells;
  std::int64_t count = 0;
  // A run of cells along an axis without levels, where there may be any number.
  std::int64_t first = 0, stride = 0;

  std::int64_t operator[](std::int64_t i) const {
    return stride != 0 ? first + i * stride : cells[static_cast<std::size_t>(i)];
  }
};

/// Tiles [begin, end), bounds of blocks, leaving out the `skipped` lowest levels: the range grows to the bounds of
/// cells of the next.
RangeIndex::Pieces RangeIndex::pieces_of(int number, std::int64_t begin, std::int64_t end, int skipped) const {
  const Axis& axis = axes_[at(number)];
  std::int64_t first = begin >> axis.block_shift;
  std::int64_t limit = (end + (std::int64_t{1} << axis.block_shift) - 1) >> axis.block_shift;
  Pieces pieces;
  if (axis.levels.size() == 1) {
    pieces.first = first * axis.stride;
    pieces.stride = axis.stride;
    pieces.count = limit - first;
    return pieces;
  }
  const auto take = [&](const Level& level, std::int64_t cell) {
    pieces.cells[static_cast<std::size_t>(pieces.count++)] = (level.offset + cell) * axis.stride;
  };
  auto level = std::min(static_cast<std::size_t>(skipped), axis.levels.size() - 1);
  first >>= level;
  limit = (limit + (std::int64_t{1} << level) - 1) >> level;
  for (; first < limit; ++level, first /= 2, limit = (limit + 1) / 2) {
    const Level& cells = axis.levels[level];
    if (cells.count == 1 || limit - first == 1) {
      take(cells, first);
      break;
    }
    if (first % 2 == 1) take(cells, first++);
    if (limit % 2 == 1 && limit < cells.count) take(cells, --limit);
  }
  return pieces;
}

Interval RangeIndex::over_cells(const Extent& box) const {
  std::array<Pieces, kMaxRank> pieces;
  for (int skipped = 0;; ++skipped) {
    std::int64_t total = 1;
    bool coarsest = true;
    for (int axis = 0; axis < table_.rank; ++axis) {
      pieces[at(axis)] = pieces_of(axis, box.begin[at(axis)], box.end[at(axis)], skipped);
      total *= pieces[at(axis)].count;
      coarsest &= static_cast<std::size_t>(skipped) + 1 >= axes_[at(axis)].levels.size();
    }
    if (total <= kMaxCells || coarsest) break;
  }
  Interval bounds = kNothing;
  TableIndex piece{};
  for (;;) {
    std::int64_t cell = 0;
    for (int axis = 0; axis < table_.rank; ++axis) cell += pieces[at(axis)][piece[at(axis)]];
    bounds = hull(bounds, cells_[static_cast<std::size_t>(cell)]);
    int axis = table_.rank - 1;
    while (axis >= 0 && ++piece[at(axis)] == pieces[at(axis)].count) piece[at(axis--)] = 0;
    if (axis < 0) return bounds;
  }
}

Interval RangeIndex::over(const TableIndex& first, const TableIndex& last) const {
  if (cells_.empty()) return single(0);
  Extent box{first, last};
  for (int axis = 0; axis < table_.rank; ++axis) ++box.end[at(axis)];

  Interval bounds = kNothing;
  const std::int64_t size = elements(box);
  if (size <= kMaxScanned) {
    bounds = scan(box);
  } else {
    const Extent inside = aligned_inside(box);
    const std::int64_t edges = size - elements(inside);
    if (edges > 0 && edges <= kMaxScanned) bounds = scan_edges(box, inside);
    bounds = hull(bounds, over_cells(edges <= kMaxScanned ? inside : aligned_around(box)));
  }
  if (bounds.low > bounds.high) return kAnyReal;
  if (table_.dtype != DType::float64) return bounds;  // float32 and int32 readings hold all others exactly
  return {round_down(bounds.low), round_up(bounds.high), bounds.may_be_nan};
}

}  // namespace tilewise::variant

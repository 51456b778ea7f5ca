#include "variant/range_index.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/half.h"

namespace tilewise::variant {
namespace {

constexpr int kBlockShift = std::countr_zero(static_cast<std::uint64_t>(RangeIndex::kBlock));
constexpr Interval kNothing{kUnbounded, -kUnbounded, false};  // the hull of no values

/// Loads an element as a number that compares fast. Types, not functions, so that loops are compiled for each.
template <class Stored, class Number>
struct Load {
  Number operator()(const std::byte* element) const {
    Stored value;
    std::memcpy(&value, element, sizeof value);
    return static_cast<Number>(value);
  }
};

struct LoadBool {
  std::int64_t operator()(const std::byte* element) const { return *element != std::byte{0}; }
};

/// Calls `use` with the loader of a dtype.
template <class Use>
void with_loader(DType dtype, Use use) {
  switch (dtype) {
    case DType::float64: return use(Load<double, double>{});
    case DType::float32: return use(Load<float, double>{});
    case DType::float16: return use(Load<Float16, double>{});
    case DType::bfloat16: return use(Load<Bfloat16, double>{});
    case DType::int64: return use(Load<std::int64_t, std::int64_t>{});
    case DType::int32: return use(Load<std::int32_t, std::int64_t>{});
    case DType::int8: return use(Load<std::int8_t, std::int64_t>{});
    case DType::uint8: return use(Load<std::uint8_t, std::int64_t>{});
    case DType::boolean: return use(LoadBool{});
    case DType::float8_e4m3: return;  // of no table
  }
}

/// Bounds under construction, of ints or reals.
template <class Number>
struct Bounds {
  static constexpr bool kIsReal = std::is_floating_point_v<Number>;
  Number low = kIsReal ? static_cast<Number>(kUnbounded) : std::numeric_limits<Number>::max();
  Number high = kIsReal ? static_cast<Number>(-kUnbounded) : std::numeric_limits<Number>::min();
  bool may_be_nan = false;

  void include(Number value) {
    low = value < low ? value : low;
    high = value > high ? value : high;
    if constexpr (kIsReal) may_be_nan |= std::isnan(value);
  }
  void store(Interval& bounds) const {
    bounds.low = low > high ? kUnbounded : static_cast<double>(low);
    bounds.high = low > high ? -kUnbounded : static_cast<double>(high);
    bounds.may_be_nan = may_be_nan;
  }
};

template <class Load>
using BoundsOf = Bounds<std::invoke_result_t<Load, const std::byte*>>;

}  // namespace

RangeIndex::RangeIndex(const BoundTable& table, const std::array<bool, kMaxRank>& wide)
    : data_(table.data), first_axis_(static_cast<std::size_t>(kMaxRank - table.rank)), dtype_(table.dtype) {
  if (table.is_empty()) return;
  std::int64_t cells = 1;
  for (std::size_t axis = kMaxRank; axis-- > 0;) {
    const bool is_own = axis >= first_axis_;
    if (is_own) {
      axes_[axis].extent = table.extents[axis - first_axis_];
      axes_[axis].step = table.strides[axis - first_axis_] * size_of(table.dtype);
    }
    add_levels(axes_[axis], is_own && wide[axis - first_axis_]);
    axes_[axis].stride = cells;
    cells *= axes_[axis].cells;
  }
  cells_.assign(static_cast<std::size_t>(cells), kNothing);
  with_loader(dtype_, [this](auto load) { fill_blocks(load); });
  fill_levels();
}

void RangeIndex::add_levels(Axis& axis, bool wide) {
  axis.block_shift = wide && axis.extent >= 2 * kBlock ? kBlockShift : 0;
  std::int64_t count = (axis.extent + axis.block() - 1) >> axis.block_shift;
  for (;;) {
    axis.levels[static_cast<std::size_t>(axis.level_count++)] = {axis.cells, count};
    axis.cells += count;
    if (!wide || count == 1) return;
    count = (count + 1) / 2;
  }
}

template <class Load>
void RangeIndex::fill_blocks(Load load) {
  const auto& [a, b, c, d] = axes_;
  for (std::int64_t i = 0; i < a.extent; ++i) {
    for (std::int64_t j = 0; j < b.extent; ++j) {
      for (std::int64_t k = 0; k < c.extent; ++k) {
        const std::byte* element = data_ + i * a.step + j * b.step + k * c.step;
        Interval* cell = cells_.data() + (i >> a.block_shift) * a.stride + (j >> b.block_shift) * b.stride +
                         (k >> c.block_shift) * c.stride;
        for (std::int64_t first = 0; first < d.extent; first += d.block(), ++cell) {
          BoundsOf<Load> bounds;
          for (std::int64_t l = first; l < std::min(first + d.block(), d.extent); ++l, element += d.step)
            bounds.include(load(element));
          Interval block;
          bounds.store(block);
          *cell = hull(*cell, block);
        }
      }
    }
  }
}

/// Axis by axis, each level from the one below. Along axes that come later only the blocks hold values by then; what is
/// computed beside them is overwritten.
void RangeIndex::fill_levels() {
  for (const Axis& axis : axes_) {
    const std::int64_t line = axis.stride * axis.cells;  // lines of cells repeat over all earlier axes
    for (std::int64_t first = 0; first < static_cast<std::int64_t>(cells_.size()); first += line) {
      for (std::size_t level = 1; level < static_cast<std::size_t>(axis.level_count); ++level) {
        const Level parents = axis.levels[level], children = axis.levels[level - 1];
        for (std::int64_t i = 0; i < parents.count; ++i) {
          Interval* parent = &cells_[static_cast<std::size_t>(first + (parents.offset + i) * axis.stride)];
          const Interval* left = &cells_[static_cast<std::size_t>(first + (children.offset + 2 * i) * axis.stride)];
          const Interval* right = 2 * i + 1 < children.count ? left + axis.stride : left;
          for (std::int64_t j = 0; j < axis.stride; ++j) parent[j] = hull(left[j], right[j]);
        }
      }
    }
  }
}

std::int64_t RangeIndex::elements(const Extent& box) {
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis < kMaxRank; ++axis)
    count *= std::max<std::int64_t>(box.end[axis] - box.begin[axis], 0);
  return count;
}

RangeIndex::Extent RangeIndex::aligned_inside(const Extent& box) const {
  Extent inside = box;
  for (std::size_t axis = first_axis_; axis < kMaxRank; ++axis) {
    const std::int64_t mask = axes_[axis].block() - 1;
    inside.begin[axis] = (box.begin[axis] + mask) & ~mask;
    if (box.end[axis] != axes_[axis].extent) inside.end[axis] = box.end[axis] & ~mask;
  }
  return inside;
}

RangeIndex::Extent RangeIndex::aligned_around(const Extent& box) const {
  Extent around = box;
  for (std::size_t axis = first_axis_; axis < kMaxRank; ++axis) {
    const std::int64_t mask = axes_[axis].block() - 1;
    around.begin[axis] = box.begin[axis] & ~mask;
    around.end[axis] = std::min((box.end[axis] + mask) & ~mask, axes_[axis].extent);
  }
  return around;
}

/// Bounds of the elements of a box along the last kRank axes; along the others it has the index 0.
template <std::size_t kRank>
void RangeIndex::scan(const std::int64_t* begin, const std::int64_t* end, Interval& result) const {
  const Axis* const axes = axes_.data() + (kMaxRank - kRank);
  with_loader(dtype_, [&, this](auto load) {
    BoundsOf<decltype(load)> bounds;
    const auto scan_axis = [&]<std::size_t kAxis>(const auto& self, const std::byte* element,
                                                  std::integral_constant<std::size_t, kAxis>) {
      if constexpr (kAxis == kRank) {
        bounds.include(load(element));
      } else {
        const std::int64_t step = axes[kAxis].step;
        element += begin[kAxis] * step;
        for (std::int64_t i = begin[kAxis]; i < end[kAxis]; ++i, element += step)
          self(self, element, std::integral_constant<std::size_t, kAxis + 1>{});
      }
    };
    scan_axis(scan_axis, data_, std::integral_constant<std::size_t, 0>{});
    bounds.store(result);
  });
}

/// Scans what of the box is not inside: axis by axis the parts before and behind, as far as earlier axes left them.
Interval RangeIndex::scan_edges(const Extent& box, const Extent& inside) const {
  Interval bounds = kNothing;
  Extent rest = box;
  for (std::size_t axis = first_axis_; axis < kMaxRank; ++axis) {
    Extent before = rest, behind = rest;
    before.end[axis] = inside.begin[axis];
    behind.begin[axis] = inside.end[axis];
    for (const Extent& part : {before, behind}) {
      Interval scanned;
      scan<kMaxRank>(part.begin.data(), part.end.data(), scanned);
      bounds = hull(bounds, scanned);
    }
    rest.begin[axis] = inside.begin[axis];
    rest.end[axis] = inside.end[axis];
  }
  return bounds;
}

/// The cells that tile a range along one axis, as offsets into cells_.
struct RangeIndex::Pieces {
  // Two for each level of a wide axis: with blocks of 8, an axis of 2^31 elements has 29 levels.
  std::array<std::int64_t, 64> offsets;
  std::int64_t count = 0;
  // Instead, along an axis without levels: a run of cells, of any number.
  bool is_run = false;
  std::int64_t first = 0, stride = 0;

  void set_run(std::int64_t first_offset, std::int64_t step, std::int64_t length) {
    is_run = true;
    first = first_offset;
    stride = step;
    count = length;
  }
  std::int64_t operator[](std::int64_t i) const {
    return is_run ? first + i * stride : offsets[static_cast<std::size_t>(i)];
  }
};

/// Tiles [begin, end), bounds of blocks, without the `skipped` lowest levels: the range grows to bounds of the next.
void RangeIndex::tile(const Axis& axis, std::int64_t begin, std::int64_t end, int skipped, Pieces& pieces) {
  std::int64_t first = begin >> axis.block_shift;
  std::int64_t limit = (end + axis.block() - 1) >> axis.block_shift;
  pieces.count = 0;
  if (axis.level_count == 1) {
    pieces.set_run(first * axis.stride, axis.stride, limit - first);
    return;
  }
  const auto take = [&](const Level& level, std::int64_t cell) {
    pieces.offsets[static_cast<std::size_t>(pieces.count++)] = (level.offset + cell) * axis.stride;
  };
  auto level = static_cast<std::size_t>(std::min(skipped, axis.level_count - 1));
  const auto go_up = [&](std::size_t levels) {
    level += levels;
    first >>= levels;
    limit = (limit + (std::int64_t{1} << levels) - 1) >> levels;
  };
  for (go_up(std::exchange(level, 0)); first < limit; go_up(1)) {
    // Where both ends are even (the axis' own end always is), parents serve as well: up to the largest cells that fit.
    const std::int64_t end_bits = limit == axis.levels[level].count ? 0 : limit;
    const auto even = static_cast<std::size_t>(std::countr_zero(static_cast<std::uint64_t>(first | end_bits)));
    go_up(std::min(even, static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(limit - first))) - 1));
    const Level& cells = axis.levels[level];
    if (limit - first == 1) {
      take(cells, first);
      break;
    }
    if (first % 2 == 1) take(cells, first++);
    if (limit % 2 == 1 && limit < cells.count) take(cells, --limit);
  }
}

Interval RangeIndex::over_cells(const Extent& box) const {
  std::array<Pieces, kMaxRank> pieces;
  for (std::size_t axis = 0; axis < first_axis_; ++axis) pieces[axis].set_run(0, 0, 1);
  for (int skipped = 0;; ++skipped) {
    std::int64_t total = 1;
    bool coarsest = true;
    for (std::size_t axis = first_axis_; axis < kMaxRank; ++axis) {
      tile(axes_[axis], box.begin[axis], box.end[axis], skipped, pieces[axis]);
      total *= pieces[axis].count;
      coarsest &= skipped + 1 >= axes_[axis].level_count;
    }
    if (total <= kMaxCells || coarsest) break;
  }
  const auto& [a, b, c, d] = pieces;
  Interval bounds = kNothing;
  for (std::int64_t i = 0; i < a.count; ++i)
    for (std::int64_t j = 0; j < b.count; ++j)
      for (std::int64_t k = 0; k < c.count; ++k)
        for (std::int64_t l = 0; l < d.count; ++l)
          bounds = hull(bounds, cells_[static_cast<std::size_t>(a[i] + b[j] + c[k] + d[l])]);
  return bounds;
}

/// Bounds over a box that is no cell and too large to be scanned.
template <std::size_t kRank>
Interval RangeIndex::over_many(const std::int64_t* begin, const std::int64_t* end, std::int64_t size) const {
  Extent box{{0, 0, 0, 0}, {1, 1, 1, 1}};
  std::copy_n(begin, kRank, box.begin.data() + (kMaxRank - kRank));
  std::copy_n(end, kRank, box.end.data() + (kMaxRank - kRank));
  const Extent inside = aligned_inside(box);
  const std::int64_t edges = size - elements(inside);
  if (edges > kMaxScanned) return over_cells(aligned_around(box));
  const Interval bounds = over_cells(inside);
  return edges > 0 ? hull(bounds, scan_edges(box, inside)) : bounds;
}

template void RangeIndex::scan<1>(const std::int64_t*, const std::int64_t*, Interval&) const;
template void RangeIndex::scan<2>(const std::int64_t*, const std::int64_t*, Interval&) const;
template void RangeIndex::scan<3>(const std::int64_t*, const std::int64_t*, Interval&) const;
template void RangeIndex::scan<4>(const std::int64_t*, const std::int64_t*, Interval&) const;
template Interval RangeIndex::over_many<1>(const std::int64_t*, const std::int64_t*, std::int64_t) const;
template Interval RangeIndex::over_many<2>(const std::int64_t*, const std::int64_t*, std::int64_t) const;
template Interval RangeIndex::over_many<3>(const std::int64_t*, const std::int64_t*, std::int64_t) const;
template Interval RangeIndex::over_many<4>(const std::int64_t*, const std::int64_t*, std::int64_t) const;

}  // namespace tilewise::variant

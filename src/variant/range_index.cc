#include "variant/range_index.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/half.h"

namespace tilewise::variant {
namespace {

constexpr int kBlockShift = std::countr_zero(static_cast<std::uint64_t>(RangeIndex::kBlock));
constexpr std::int64_t kAlwaysScanned = 4;                    // so few elements are read faster than a cell is found
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
  double operator()(const std::byte* element) const { return static_cast<int>(*element != std::byte{0}); }
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
    axis.levels.push_back({axis.cells, count});
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
          Interval bounds = *cell;
          for (std::int64_t l = first; l < std::min(first + d.block(), d.extent); ++l, element += d.step)
            include(bounds, load(element));
          *cell = bounds;
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
      for (std::size_t level = 1; level < axis.levels.size(); ++level) {
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
Interval RangeIndex::scan(const std::int64_t* begin, const std::int64_t* end) const {
  Interval bounds = kNothing;
  const Axis* const axes = axes_.data() + (kMaxRank - kRank);
  with_loader(dtype_, [&, this](auto load) {
    const auto scan_axis = [&]<std::size_t kAxis>(const auto& self, const std::byte* element,
                                                  std::integral_constant<std::size_t, kAxis>) {
      if constexpr (kAxis == kRank) {
        include(bounds, load(element));
      } else {
        const std::int64_t step = axes[kAxis].step;
        element += begin[kAxis] * step;
        for (std::int64_t i = begin[kAxis]; i < end[kAxis]; ++i, element += step)
          self(self, element, std::integral_constant<std::size_t, kAxis + 1>{});
      }
    };
    scan_axis(scan_axis, data_, std::integral_constant<std::size_t, 0>{});
  });
  return bounds;
}

/// Scans what of the box is not inside: axis by axis the parts before and behind, as far as earlier axes left them.
Interval RangeIndex::scan_edges(const Extent& box, const Extent& inside) const {
  Interval bounds = kNothing;
  Extent rest = box;
  for (std::size_t axis = first_axis_; axis < kMaxRank; ++axis) {
    Extent before = rest, behind = rest;
    before.end[axis] = inside.begin[axis];
    behind.begin[axis] = inside.end[axis];
    bounds = hull(bounds, hull(scan<kMaxRank>(before.begin.data(), before.end.data()),
                               scan<kMaxRank>(behind.begin.data(), behind.end.data())));
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
  if (axis.levels.size() == 1) {
    pieces.set_run(first * axis.stride, axis.stride, limit - first);
    return;
  }
  const auto take = [&](const Level& level, std::int64_t cell) {
    pieces.offsets[static_cast<std::size_t>(pieces.count++)] = (level.offset + cell) * axis.stride;
  };
  auto level = std::min(static_cast<std::size_t>(skipped), axis.levels.size() - 1);
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

/// The cell that is exactly the box along the last kRank axes, or null.
template <std::size_t kRank>
const Interval* RangeIndex::as_one_cell(const std::int64_t* begin, const std::int64_t* end) const {
  const Interval* cell = cells_.data();
  for (std::size_t i = 0; i < kRank; ++i) {
    const Axis& axis = axes_[kMaxRank - kRank + i];
    const auto bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(end[i] - begin[i] - 1)));
    const int shift = std::max(bits, axis.block_shift);
    const auto level = static_cast<std::size_t>(shift - axis.block_shift);
    const std::int64_t side = std::int64_t{1} << shift;
    const bool is_cell = (begin[i] & (side - 1)) == 0 && (end[i] == begin[i] + side || end[i] == axis.extent) &&
                         level < axis.levels.size();
    if (!is_cell) return nullptr;
    cell += (axis.levels[level].offset + (begin[i] >> shift)) * axis.stride;
  }
  return cell;
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
      coarsest &= static_cast<std::size_t>(skipped) + 1 >= axes_[axis].levels.size();
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

Interval RangeIndex::over_parts(const Extent& box, std::int64_t size) const {
  const Extent inside = aligned_inside(box);
  const std::int64_t edges = size - elements(inside);
  if (edges > kMaxScanned) return over_cells(aligned_around(box));
  const Interval bounds = over_cells(inside);
  return edges > 0 ? hull(bounds, scan_edges(box, inside)) : bounds;
}

// Single elements and cells are most of what is asked for. For them nothing is copied or looped over but the rank.
template <std::size_t kRank>
Interval RangeIndex::over(const std::array<std::int64_t, kRank>& first,
                          const std::array<std::int64_t, kRank>& last) const {
  if (cells_.empty()) return single(0);
  std::int64_t end[kRank], size = 1;
  for (std::size_t axis = 0; axis < kRank; ++axis) {
    end[axis] = last[axis] + 1;
    size *= end[axis] - first[axis];
  }
  Interval bounds;
  const Interval* cell = size <= kAlwaysScanned ? nullptr : as_one_cell<kRank>(first.data(), end);
  if (cell != nullptr) {
    bounds = *cell;
  } else if (size <= kMaxScanned) {
    bounds = scan<kRank>(first.data(), end);
  } else {
    Extent box{{0, 0, 0, 0}, {1, 1, 1, 1}};
    std::copy_n(first.data(), kRank, box.begin.data() + (kMaxRank - kRank));
    std::copy_n(end, kRank, box.end.data() + (kMaxRank - kRank));
    bounds = over_parts(box, size);
  }
  if (bounds.low > bounds.high) return kAnyReal;
  if (dtype_ != DType::float64) return bounds;  // float32 and int32 readings hold all others exactly
  return {round_down(bounds.low), round_up(bounds.high), bounds.may_be_nan};
}

template Interval RangeIndex::over(const std::array<std::int64_t, 1>&, const std::array<std::int64_t, 1>&) const;
template Interval RangeIndex::over(const std::array<std::int64_t, 2>&, const std::array<std::int64_t, 2>&) const;
template Interval RangeIndex::over(const std::array<std::int64_t, 3>&, const std::array<std::int64_t, 3>&) const;
template Interval RangeIndex::over(const std::array<std::int64_t, 4>&, const std::array<std::int64_t, 4>&) const;

}  // namespace tilewise::variant

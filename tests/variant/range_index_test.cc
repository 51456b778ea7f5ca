#include "variant/range_index.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/half.h"

namespace tilewise::variant {
namespace {

/// A table with its own storage: `gap` unused elements follow each element, and axes run backwards where asked.
struct OwnedTable {
  std::vector<std::byte> storage;
  BoundTable view;
};

OwnedTable make_table(DType dtype, const std::vector<std::int64_t>& extents, std::int64_t gap, unsigned backwards) {
  OwnedTable table;
  table.view.dtype = dtype;
  table.view.rank = static_cast<int>(extents.size());
  std::int64_t stride = gap + 1, origin = 0;
  for (std::size_t axis = extents.size(); axis-- > 0;) {
    const bool reversed = (backwards >> axis & 1) != 0;
    table.view.extents[axis] = extents[axis];
    table.view.strides[axis] = reversed ? -stride : stride;
    if (reversed) origin += (std::max<std::int64_t>(extents[axis], 1) - 1) * stride;
    stride *= std::max<std::int64_t>(extents[axis], 1);
  }
  table.storage.resize(static_cast<std::size_t>(stride * size_of(dtype)), std::byte{0xFF});
  table.view.data = table.storage.data() + origin * size_of(dtype);
  return table;
}

template <class Stored>
void store(const std::byte* element, Stored value) {
  std::memcpy(const_cast<std::byte*>(element), &value, sizeof value);
}

void store(const std::byte* element, DType dtype, double value) {
  switch (dtype) {
    case DType::float64: return store(element, value);
    case DType::float32: return store(element, static_cast<float>(value));
    case DType::float16: return store(element, Float16(value));
    case DType::bfloat16: return store(element, Bfloat16(value));
    case DType::int64: return store(element, static_cast<std::int64_t>(value));
    case DType::int32: return store(element, static_cast<std::int32_t>(value));
    case DType::int8: return store(element, static_cast<std::int8_t>(value));
    case DType::uint8: return store(element, static_cast<std::uint8_t>(value));
    case DType::boolean: return store(element, static_cast<std::uint8_t>(value != 0));
    case DType::float8_e4m3: ADD_FAILURE() << "no table holds float8_e4m3"; return;
  }
}

bool is_real(DType dtype) {
  return dtype == DType::float64 || dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

double random_value(DType dtype, bool with_nan) {
  if (dtype == DType::boolean) return *rc::gen::inRange(0, 2);
  if (dtype == DType::uint8) return *rc::gen::inRange(0, 256);
  if (!is_real(dtype)) return *rc::gen::arbitrary<std::int32_t>();
  const int kind = *rc::gen::inRange(0, 20);
  if (kind == 0 && with_nan) return std::nan("");
  if (kind == 1) return -kUnbounded;
  return *rc::gen::inRange(-1000, 1000) / 7.0;
}

/// What brute force says of a box, rounded outward as a float32 and a float64 reading may see the elements.
Interval brute_force(const BoundTable& table, const TableIndex& first, const TableIndex& last) {
  Interval bounds{kUnbounded, -kUnbounded, false};
  for_each_index(table, [&](std::span<const std::int64_t> index) {
    for (std::size_t axis = 0; axis < index.size(); ++axis)
      if (index[axis] < first[axis] || index[axis] > last[axis]) return;
    const double value = table.at(index);
    if (std::isnan(value)) {
      bounds.may_be_nan = true;
    } else {
      bounds.low = std::min(bounds.low, value);
      bounds.high = std::max(bounds.high, value);
    }
  });
  if (bounds.low > bounds.high) return kAnyReal;
  if (table.dtype != DType::float64) return bounds;
  return {round_down(bounds.low), round_up(bounds.high), bounds.may_be_nan};
}

template <std::size_t kRank>
Interval over(const RangeIndex& index, const TableIndex& first, const TableIndex& last) {
  std::array<std::int64_t, kRank> own_first, own_last;
  std::copy_n(first.begin(), kRank, own_first.begin());
  std::copy_n(last.begin(), kRank, own_last.begin());
  Interval bounds;
  index.over(own_first, own_last, bounds);
  return bounds;
}

Interval over(const RangeIndex& index, int rank, const TableIndex& first, const TableIndex& last) {
  switch (rank) {
    case 1: return over<1>(index, first, last);
    case 2: return over<2>(index, first, last);
    case 3: return over<3>(index, first, last);
    default: return over<4>(index, first, last);
  }
}

bool encloses(const Interval& outer, const Interval& inner) {
  return outer.low <= inner.low && outer.high >= inner.high && (outer.may_be_nan || !inner.may_be_nan);
}

OwnedTable random_table() {
  const auto dtype = *rc::gen::element(DType::float64, DType::float32, DType::float16, DType::bfloat16, DType::int64,
                                       DType::int32, DType::uint8, DType::boolean);
  const int rank = *rc::gen::inRange(1, 5);
  const int longest[] = {700, 60, 20, 9};
  std::vector<std::int64_t> extents;
  for (int axis = 0; axis < rank; ++axis) extents.push_back(*rc::gen::inRange(1, longest[rank - 1]));
  OwnedTable table = make_table(dtype, extents, *rc::gen::inRange(0, 3), *rc::gen::inRange(0u, 16u));
  const bool with_nan = *rc::gen::arbitrary<bool>();
  // One random draw seeds a simple generator: RapidCheck's own draws are too slow for thousands of elements.
  std::vector<double> pool;
  for (int i = 0; i < 50; ++i) pool.push_back(random_value(dtype, with_nan));
  auto state = *rc::gen::arbitrary<std::uint32_t>();
  for_each_index(table.view, [&](std::span<const std::int64_t> index) {
    state = state * 1664525u + 1013904223u;
    store(table.view.address(index), dtype, pool[(state >> 16) % pool.size()]);
  });
  return table;
}

RC_GTEST_PROP(RangeIndexLaw, BoundsHoldAndAreExactWherePromised, ()) {
  const OwnedTable table = random_table();
  std::array<bool, kMaxRank> wide{};
  for (bool& axis : wide) axis = *rc::gen::inRange(0, 4) != 0;
  const RangeIndex index(table.view, wide);
  for (int box = 0; box < 20; ++box) {
    TableIndex first{}, last{};
    std::int64_t size = 1;
    int long_axes = 0;
    bool long_axes_wide = true, aligned = true;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(table.view.rank); ++axis) {
      const std::int64_t extent = table.view.extents[axis];
      const int shape = *rc::gen::inRange(0, 3);
      if (shape == 0) {  // any
        first[axis] = *rc::gen::inRange<std::int64_t>(0, extent);
        last[axis] = *rc::gen::inRange<std::int64_t>(first[axis], extent);
      } else if (shape == 1) {  // one index
        first[axis] = last[axis] = *rc::gen::inRange<std::int64_t>(0, extent);
      } else {  // a power of two, aligned to its size
        const std::int64_t side = std::int64_t{8} << *rc::gen::inRange(0, 7);
        first[axis] = *rc::gen::inRange<std::int64_t>(0, extent) / side * side;
        last[axis] = std::min(first[axis] + side, extent) - 1;
      }
      size *= last[axis] - first[axis] + 1;
      long_axes += first[axis] != last[axis];
      long_axes_wide &= first[axis] == last[axis] || wide[axis];
      aligned &= shape == 2 && wide[axis];
    }
    const Interval expected = brute_force(table.view, first, last);
    const Interval bounds = over(index, table.view.rank, first, last);
    RC_ASSERT(encloses(bounds, expected));
    const bool promised = size <= RangeIndex::kMaxScanned || (long_axes <= 1 && long_axes_wide) || aligned;
    if (promised) RC_ASSERT(bounds == expected);
  }
}

TEST(RangeIndex, AllNanIsAnyReal) {
  OwnedTable table = make_table(DType::float32, {100}, 0, 0);
  for_each_index(table.view, [&](auto index) { store(table.view.address(index), std::nanf("")); });
  EXPECT_EQ(over(RangeIndex(table.view, {true}), 1, {0}, {99}), kAnyReal);
}

TEST(RangeIndex, KeepsInt32Exact) {
  OwnedTable table = make_table(DType::int32, {100}, 0, 0);
  for_each_index(table.view, [&](auto index) {
    store(table.view.address(index), std::int32_t{(1 << 24) + 1 + static_cast<std::int32_t>(index[0])});
  });
  EXPECT_EQ(over(RangeIndex(table.view, {true}), 1, {0}, {98}), (Interval{(1 << 24) + 1, (1 << 24) + 99, false}));
}

TEST(RangeIndex, RoundsFloat64Outward) {
  OwnedTable table = make_table(DType::float64, {2}, 0, 0);
  store(table.view.data, 0.1);
  store(table.view.data + 8, 1e300);
  const Interval bounds = over(RangeIndex(table.view, {true}), 1, {0}, {1});
  EXPECT_LT(bounds.low, 0.1);
  EXPECT_EQ(bounds.low, std::nextafter(0.1f, 0.0f));  // float32(0.1) is above 0.1
  EXPECT_EQ(bounds.high, kUnbounded);                 // what a float32 reading makes of it
}

}  // namespace
}  // namespace tilewise::variant

// Frozen tables: their contents and range, however the data that they copy is laid out.
#include <gtest/gtest.h>

#include <cstring>

#include "tilewise/variant.h"

namespace tilewise {
namespace {

/// A frozen table of `values` [2, 3], from data laid out with the given strides.
template <class T>
Table frozen(DType dtype, const std::vector<T>& values, std::int64_t row_stride, std::int64_t column_stride) {
  std::vector<T> storage(64, static_cast<T>(113));  // what must not be looked at
  for (std::int64_t row = 0; row < 2; ++row) {
    for (std::int64_t column = 0; column < 3; ++column) {
      storage[static_cast<std::size_t>(row * row_stride + column * column_stride)] =
          values[static_cast<std::size_t>(row * 3 + column)];
    }
  }
  const std::int64_t extents[] = {2, 3}, strides[] = {row_stride, column_stride};
  return Table::frozen("t", ConstTensor(storage.data(), dtype, extents, strides));
}

template <class T>
void expect_frozen(DType dtype, const std::vector<T>& values, double low, double high) {
  for (const auto& [row_stride, column_stride] : {std::pair{3, 1}, {4, 1}, {1, 2}, {7, 3}}) {
    const Table table = frozen(dtype, values, row_stride, column_stride);
    EXPECT_EQ(table.low(), low) << to_string(dtype) << " " << row_stride << " " << column_stride;
    EXPECT_EQ(table.high(), high) << to_string(dtype) << " " << row_stride << " " << column_stride;
    const ConstTensor data = *table.frozen_data();
    EXPECT_EQ(std::memcmp(data.data, values.data(), values.size() * sizeof(T)), 0) << to_string(dtype);
  }
}

TEST(FrozenTable, KeepsValuesAndRangeOfAnyLayout) {
  expect_frozen<std::int32_t>(DType::int32, {4, -9, 3, 0, 2000000000, 7}, -9, 2000000000);
  expect_frozen<std::uint8_t>(DType::uint8, {4, 255, 3, 2, 9, 7}, 2, 255);
  expect_frozen<std::uint8_t>(DType::boolean, {1, 0, 0, 1, 1, 0}, 0, 1);
  expect_frozen<std::uint8_t>(DType::boolean, {1, 1, 2, 1, 1, 7}, 1, 1);  // any nonzero byte is true
  expect_frozen<float>(DType::float32, {4, -9.5f, 3, 0, 2e9f, 7}, -9.5, 2e9f);
  expect_frozen<std::int64_t>(DType::int64, {4, -9, 3, 0, 2000000000, 7}, -9, 2000000000);
}

TEST(FrozenTable, LivesWithoutItsSource) {
  auto source = std::make_unique<std::vector<std::int32_t>>(std::vector<std::int32_t>{5, 6});
  const Table table = Table::frozen("t", ConstTensor(source->data(), DType::int32, {2}));
  source.reset();
  EXPECT_EQ(static_cast<const std::int32_t*>(table.frozen_data()->data)[1], 6);
}

}  // namespace
}  // namespace tilewise

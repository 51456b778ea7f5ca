// The law of the textual form, for any variant.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "variant/bindings.h"
#include "variant/graph.h"

namespace tilewise {

/// The bits of each, so that -0 differs from 0.
inline std::vector<std::uint64_t> bits_of(const std::vector<double>& values) {
  std::vector<std::uint64_t> bits;
  for (double value : values) bits.push_back(std::bit_cast<std::uint64_t>(value));
  return bits;
}

/// The same values bit for bit, but a NaN is any NaN and a true bool any byte but 0.
inline void expect_same_frozen_data(const Table& table, const Table& other) {
  const variant::BoundTable a = variant::view_of(table, *table.frozen_data()),
                            b = variant::view_of(other, *other.frozen_data());
  ASSERT_EQ(a.extents, b.extents);
  for_each_index(a, [&](std::span<const std::int64_t> index) {
    const double x = a.at(index), y = b.at(index);
    EXPECT_TRUE(bits_of({x}) == bits_of({y}) || (std::isnan(x) && std::isnan(y))) << x << ", " << y;
  });
}

/// A table read back: the same dtype, rank and range, and the same values where they are few enough to be written.
inline void expect_same_table(const Table& table, const Table& read_back) {
  EXPECT_EQ(read_back.dtype(), table.dtype());
  EXPECT_EQ(read_back.rank(), table.rank());
  const auto frozen = table.frozen_data();
  const bool is_written = frozen && frozen->elements() <= 64;
  ASSERT_EQ(read_back.frozen_data().has_value(), is_written);
  if (is_written) expect_same_frozen_data(table, read_back);
  if (!table.info().may_hold_nan || !frozen) {
    EXPECT_EQ(bits_of({read_back.low(), read_back.high()}), bits_of({table.low(), table.high()}));
  }
}

/// parse_variant(to_string(v)) is v: the same key, literals, parameters and tables; and its text is the same again.
inline void expect_round_trip(const Variant& variant) {
  const std::string text = to_string(variant);
  SCOPED_TRACE(text);
  const Variant read_back = parse_variant(text);
  EXPECT_EQ(read_back.key(), variant.key());
  EXPECT_EQ(bits_of(read_back.literals()), bits_of(variant.literals()));
  EXPECT_EQ(bits_of({read_back.data().dropout_probability}), bits_of({variant.data().dropout_probability}));
  EXPECT_EQ(to_string(read_back), text);

  ASSERT_EQ(read_back.parameters().size(), variant.parameters().size());
  for (std::size_t i = 0; i < variant.parameters().size(); ++i) {
    const Parameter &given = variant.parameters()[i], &found = read_back.parameters()[i];
    EXPECT_EQ(found.type(), given.type());
    EXPECT_EQ(bits_of({found.low(), found.high()}), bits_of({given.low(), given.high()}));
  }
  ASSERT_EQ(read_back.tables().size(), variant.tables().size());
  for (std::size_t i = 0; i < variant.tables().size(); ++i)
    expect_same_table(variant.tables()[i], read_back.tables()[i]);
}

}  // namespace tilewise

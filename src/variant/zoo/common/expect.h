// Refusals of arguments that a named variant does not take: each names variant, argument, value and what was expected.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "core/fail.h"
#include "tilewise/variant.h"

namespace tilewise::zoo {

using Integers = std::vector<std::int32_t>;

inline void expect_at_least(std::string_view variant, std::string_view argument, std::int32_t value,
                            std::int32_t lowest) {
  if (value < lowest) fail_argument("{}(): {} is {}, expected at least {}", variant, argument, value, lowest);
}

inline void expect_between(std::string_view variant, std::string_view argument, std::int32_t value, std::int32_t lowest,
                           std::int32_t highest) {
  if (value < lowest || value > highest) {
    fail_argument("{}(): {} is {}, expected {} to {}", variant, argument, value, lowest, highest);
  }
}

inline void expect_positive(std::string_view variant, std::string_view argument, double value) {
  if (!(value > 0 && value < kInfinity)) {
    fail_argument("{}(): {} is {}, expected a finite number above 0", variant, argument, value);
  }
}

inline void expect_odd(std::string_view variant, std::string_view argument, std::int32_t value) {
  if (value % 2 == 0) fail_argument("{}(): {} is {}, expected an odd number", variant, argument, value);
}

/// A list with one number for each axis, none below `lowest`.
inline void expect_axes(std::string_view variant, std::string_view argument, const Integers& values, std::size_t axes,
                        std::int32_t lowest) {
  if (values.size() != axes) {
    fail_argument("{}(): {} is [{}], expected {} numbers", variant, argument, fmt::join(values, ", "), axes);
  }
  for (std::int32_t value : values) expect_at_least(variant, argument, value, lowest);
}

/// The product of positive numbers; refuses one that is no int32, which positions are.
inline std::int32_t expect_product(std::string_view variant, std::string_view what, const Integers& factors) {
  std::int64_t product = 1;
  for (std::int32_t factor : factors) {
    product *= factor;
    if (product > std::numeric_limits<std::int32_t>::max()) {
      fail_argument("{}(): {} is the product of [{}], expected at most 2147483647", variant, what,
                    fmt::join(factors, ", "));
    }
  }
  return static_cast<std::int32_t>(product);
}

/// The sum of a list of lengths, none negative; refuses an empty list and a sum that is 0 or no int32.
inline std::int32_t expect_lengths(std::string_view variant, std::string_view argument, const Integers& lengths) {
  std::int64_t total = 0;
  for (std::int32_t length : lengths) {
    expect_at_least(variant, argument, length, 0);
    total += length;
  }
  if (total < 1 || total > std::numeric_limits<std::int32_t>::max()) {
    fail_argument("{}(): {} sum to {}, expected 1 to 2147483647", variant, argument, total);
  }
  return static_cast<std::int32_t>(total);
}

inline void expect_table(std::string_view variant, const Table& table, Type type, int lowest_rank, int highest_rank) {
  if (table.type() != type) {
    fail_argument("{}(): table '{}' is {} and reads as {}, expected a dtype that reads as {}", variant, table.name(),
                  to_string(table.dtype()), to_string(table.type()), to_string(type));
  }
  if (table.rank() < lowest_rank || table.rank() > highest_rank) {
    fail_argument("{}(): table '{}' has rank {}, expected {} to {}", variant, table.name(), table.rank(), lowest_rank,
                  highest_rank);
  }
}

}  // namespace tilewise::zoo

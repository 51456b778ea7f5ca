#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// A learned bias for each head and relative position, which is clipped.
///
///     s + bias[head, clamp(key - query, -max_distance, max_distance) + max_distance]
///
/// `bias`: a table of reals [heads, 2 * max_distance + 1]. `max_distance`: 0 to 2^30 - 1.
Variant relative_position(const Table& bias, std::int32_t max_distance) {
  expect_table("relative_position", bias, Type::real, 2, 2);
  expect_between("relative_position", "max_distance", max_distance, 0, (1 << 30) - 1);
  return score([&](Expr s, const At& at) {
    const Expr clipped = min(max(at.key - at.query, -max_distance), max_distance);
    return s + bias(at.head, clipped + max_distance);
  });
}

/// A bias by clipped relative position; to be bound: `distance_bias`, float32 [heads, 2 * max_distance + 1].
///
///     s + distance_bias[head, clamp(key - query, -max_distance, max_distance) + max_distance]
///
/// `max_distance`: 0 to 2^30 - 1.
///
/// Source: Self-Attention with Relative Position Representations (Shaw et al. 2018), with a number for each vector
/// Example: relative_position(128)
Variant relative_position(std::int32_t max_distance) {
  return relative_position(Table("distance_bias", DType::float32, 2), max_distance);
}

}  // namespace tilewise::zoo

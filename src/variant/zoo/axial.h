#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Axial attention over an image stored row by row: each pixel sees its own column or its own row.
///
///     keep(query % width == key % width) along axis 0, keep(query // width == key // width) along axis 1
///
/// Positions from height * width on see nothing and nothing sees them.
///
/// `height`, `width`: at least 1; the width is part of the code. `axis`: the one that attention runs along: 0 for the
/// height (a column is seen), 1 for the width (a row is seen).
///
/// Source: Axial Attention in Multidimensional Transformers (Ho et al. 2019)
/// Example: axial(32, 32, 0)
Variant axial(std::int32_t height, std::int32_t width, std::int32_t axis) {
  expect_at_least("axial", "height", height, 1);
  expect_at_least("axial", "width", width, 1);
  expect_between("axial", "axis", axis, 0, 1);
  const std::int32_t count = expect_product("axial", "height * width", {height, width});
  return keep([&](const At& at) {
    const Expr same_line =
        axis == 0 ? at.query % width == at.key % width : floor_divide(at.query, width) == floor_divide(at.key, width);
    return inside(at.query, count) && inside(at.key, count) && same_line;
  });
}

}  // namespace tilewise::zoo

#pragma once

#include "variant/zoo/common/neighbourhood.h"

namespace tilewise::zoo {

/// Neighbourhood attention over an image stored row by row: neighbours along both axes.
///
///     keep(neighbour(row(query), row(key)) and neighbour(column(query), column(key)))
///
/// neighbour() is neighbourhood_1d's along each axis. Positions from height * width on see nothing and nothing sees
/// them.
///
/// `extents`: [height, width]. `window`, `stride`, `dilation`: one number for each axis, bounded as in
/// neighbourhood_1d.
///
/// Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
/// Example: neighbourhood_2d([32, 32], [7, 7])
Variant neighbourhood_2d(const std::vector<std::int32_t>& extents, const std::vector<std::int32_t>& window,
                         const std::vector<std::int32_t>& stride = {1, 1},
                         const std::vector<std::int32_t>& dilation = {1, 1}) {
  expect_axes("neighbourhood_2d", "extents", extents, 2, 1);
  return neighbourhood("neighbourhood_2d", extents, window, stride, dilation);
}

}  // namespace tilewise::zoo

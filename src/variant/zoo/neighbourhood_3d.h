#pragma once

#include "variant/zoo/common/neighbourhood.h"

namespace tilewise::zoo {

/// Neighbourhood attention over a video stored frame by frame, row by row: neighbours along all three axes.
///
///     keep(neighbour along depth, height and width)
///
/// neighbour is neighbourhood_1d's along each axis. Positions from depth * height * width on see nothing and nothing
/// sees them.
///
/// `extents`: [depth, height, width]. `window`, `stride`, `dilation`: one number for each axis, bounded as in
/// neighbourhood_1d.
///
/// Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
/// Example: neighbourhood_3d([8, 16, 16], [3, 5, 5])
Variant neighbourhood_3d(const std::vector<std::int32_t>& extents, const std::vector<std::int32_t>& window,
                         const std::vector<std::int32_t>& stride = {1, 1, 1},
                         const std::vector<std::int32_t>& dilation = {1, 1, 1}) {
  expect_axes("neighbourhood_3d", "extents", extents, 3, 1);
  return neighbourhood("neighbourhood_3d", extents, window, stride, dilation);
}

}  // namespace tilewise::zoo

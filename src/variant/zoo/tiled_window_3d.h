#pragma once

#include "variant/zoo/common/tiled_window.h"

namespace tilewise::zoo {

/// Sliding tile attention over a video: windows of whole tiles, moving tile by tile, so that no tile is partial.
///
///     keep(abs(tile(key) - clamp(tile(query), window / 2, tiles - 1 - window / 2)) <= window / 2, along all axes)
///
/// Tokens are stored tile by tile, tiles frame by frame and row by row, and `text` tokens behind the video see all and
/// are seen by all. Positions behind those see nothing and nothing sees them.
///
/// `extents`: [depth, height, width]. `tile`: [depth, height, width], which divide the extents. `window`: tiles along
/// each axis, odd and at most as many as there are. `text`: at least 0. Tiles are part of the code.
///
/// Source: Fast Video Generation with Sliding Tile Attention (Zhang et al. 2025)
/// Example: tiled_window_3d([18, 16, 16], [6, 8, 8], [3, 1, 1])
Variant tiled_window_3d(const std::vector<std::int32_t>& extents, const std::vector<std::int32_t>& tile,
                        const std::vector<std::int32_t>& window, std::int32_t text = 0) {
  expect_axes("tiled_window_3d", "extents", extents, 3, 1);
  return tiled_window("tiled_window_3d", extents, tile, window, text);
}

}  // namespace tilewise::zoo

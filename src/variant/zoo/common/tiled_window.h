// Sliding tile attention over a grid of any number of axes.
#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Tokens stored tile by tile, tiles row by row, with text behind them. All queries of a tile share a window of whole
/// tiles, centred on their own and shifted inwards at the borders.
inline Variant tiled_window(std::string_view name, const Integers& extents, const Integers& tile,
                            const Integers& window, std::int32_t text) {
  const std::size_t axes = extents.size();
  expect_axes(name, "tile", tile, axes, 1);
  expect_axes(name, "window", window, axes, 1);
  expect_at_least(name, "text", text, 0);
  Integers tiles;  // [axes], tiles along each axis
  for (std::size_t axis = 0; axis < axes; ++axis) {
    if (extents[axis] % tile[axis] != 0) {
      fail_argument("{}(): an axis of {} in tiles of {}, expected a multiple", name, extents[axis], tile[axis]);
    }
    tiles.push_back(extents[axis] / tile[axis]);
    expect_odd(name, "window", window[axis]);
    expect_between(name, "window", window[axis], 1, tiles[axis]);
  }
  const std::int32_t image = expect_product(name, "the number of places", extents);
  const std::int32_t tile_places = expect_product(name, "a tile's places", tile);
  expect_between(name, "text", text, 0, std::numeric_limits<std::int32_t>::max() - image);

  return keep([&](const At& at) {
    const auto query = coordinates(floor_divide(at.query, tile_places), tiles);
    const auto key = coordinates(floor_divide(at.key, tile_places), tiles);
    Expr near = inside(at.query, image) && inside(at.key, image);
    for (std::size_t axis = 0; axis < axes; ++axis) {
      const std::int32_t reach = window[axis] / 2;
      const Expr centre = max(min(query[axis], tiles[axis] - 1 - reach), reach);
      near = near && abs(key[axis] - centre) <= reach;
    }
    if (text == 0) return near;
    const Expr to_text = inside(at.query, image + text) && at.key >= image && at.key < image + text;
    const Expr from_text = at.query >= image && at.query < image + text && inside(at.key, image + text);
    return near || to_text || from_text;
  });
}

}  // namespace tilewise::zoo

// Neighbourhood attention along the axes of a grid, as NATTEN defines it.
#pragma once

#include <algorithm>

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Whether a key lies in a query's window along one axis of `length` places.
///
/// Places that are equal modulo the dilation form a group, and all counting is within the query's group. Each `stride`
/// neighbouring queries share the window of their leader, the middle one (the right of two). A window reaches
/// window / 2 places to the left of its leader and (window - 1) / 2 to the right, and is shifted inwards at the ends.
inline Expr is_neighbour(Expr query, Expr key, std::int32_t length, std::int32_t window, std::int32_t stride,
                         std::int32_t dilation) {
  const Expr group = query % dilation;
  const Expr query_place = floor_divide(query, dilation), key_place = floor_divide(key, dilation);
  const Expr group_length = dilation == 1 ? Expr(length) : floor_divide(length - 1 - group, dilation) + 1;
  // The last leader may lie past the end; the shift below moves its window inwards all the same.
  const Expr leader = floor_divide(query_place, stride) * stride + stride / 2;
  const Expr first = max(min(leader - window / 2, group_length - window), 0);
  return key % dilation == group && key_place >= first && key_place - first < window;
}

/// Neighbourhood attention over a grid stored row by row: every axis must agree.
inline Variant neighbourhood(std::string_view name, const Integers& extents, const Integers& window,
                             const Integers& stride, const Integers& dilation) {
  const std::size_t axes = extents.size();
  expect_axes(name, "window", window, axes, 1);
  expect_axes(name, "stride", stride, axes, 1);
  expect_axes(name, "dilation", dilation, axes, 1);
  for (std::size_t axis = 0; axis < axes; ++axis) {
    if (std::int64_t{window[axis]} * dilation[axis] > extents[axis]) {
      fail_argument("{}(): window {} with dilation {} spans {} places, expected at most the axis's {}", name,
                    window[axis], dilation[axis], std::int64_t{window[axis]} * dilation[axis], extents[axis]);
    }
    if (stride[axis] > window[axis]) {
      fail_argument("{}(): stride is {}, expected at most the window's {}", name, stride[axis], window[axis]);
    }
  }
  const std::int32_t count = expect_product(name, "the number of places", extents);
  return keep([&](const At& at) {
    const auto query = coordinates(at.query, extents), key = coordinates(at.key, extents);
    Expr kept = inside(at.query, count) && inside(at.key, count);
    for (std::size_t axis = 0; axis < axes; ++axis) {
      kept = kept && is_neighbour(query[axis], key[axis], extents[axis], window[axis], stride[axis], dilation[axis]);
    }
    return kept;
  });
}

}  // namespace tilewise::zoo

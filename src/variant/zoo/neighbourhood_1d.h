#pragma once

#include "variant/zoo/common/neighbourhood.h"

namespace tilewise::zoo {

/// Neighbourhood attention in one dimension: a window that is shifted inwards at the ends instead of cut off.
///
///     keep(query % dilation == key % dilation and 0 <= key // dilation - first(query) < window)
///
/// first(query) = clamp(leader - window / 2, 0, places - window) in the query's dilation group, where leader is the
/// middle query of each `stride` neighbours (the right one of two). Every query sees exactly `window` keys. Positions
/// from `length` on see nothing and nothing sees them.
///
/// `length`: places. `window`: places that a query sees; window * dilation is at most length. `stride`: queries that
/// share a window, at most window. `dilation`: distance of seen places. All at least 1; the last two are part of the
/// code.
///
/// Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
/// Example: neighbourhood_1d(1024, 63, 1, 2)
Variant neighbourhood_1d(std::int32_t length, std::int32_t window, std::int32_t stride = 1, std::int32_t dilation = 1) {
  expect_at_least("neighbourhood_1d", "length", length, 1);
  return neighbourhood("neighbourhood_1d", {length}, {window}, {stride}, {dilation});
}

}  // namespace tilewise::zoo

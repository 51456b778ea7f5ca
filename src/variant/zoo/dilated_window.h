#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sliding window with gaps, causal: each query sees `size` positions, `dilation` apart, its own the last of them.
///
///     keep(0 <= query - key < size * dilation and (query - key) % dilation == 0)
///
/// `size`: positions that a query sees, at least 1. `dilation`: the distance between them, at least 1; it is part of
/// the code. Their product must be below 2^31.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020); LongNet (Ding et al. 2023)
/// Example: dilated_window(256, 4)
Variant dilated_window(std::int32_t size, std::int32_t dilation) {
  expect_at_least("dilated_window", "size", size, 1);
  expect_at_least("dilated_window", "dilation", dilation, 1);
  const std::int32_t reach = expect_product("dilated_window", "size * dilation", {size, dilation});
  return keep([&](const At& at) {
    const Expr back = at.query - at.key;
    return back >= 0 && back < reach && back % dilation == 0;
  });
}

}  // namespace tilewise::zoo

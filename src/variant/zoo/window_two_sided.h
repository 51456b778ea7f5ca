#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sliding window that reaches `left` positions back and `right` ahead.
///
///     keep(-right <= query - key <= left)
///
/// `left`, `right`: positions, at least 0. Each query sees left + right + 1 of them, its own among them.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020); FlashAttention 2.3's window_size (Dao 2023)
/// Example: window_two_sided(256, 256)
Variant window_two_sided(std::int32_t left, std::int32_t right) {
  expect_at_least("window_two_sided", "left", left, 0);
  expect_at_least("window_two_sided", "right", right, 0);
  return keep([&](const At& at) { return at.query - at.key <= left && at.key - at.query <= right; });
}

}  // namespace tilewise::zoo

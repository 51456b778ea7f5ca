#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sliding window, causal: each query sees the last `size` positions, its own among them.
///
///     keep(0 <= query - key < size)
///
/// `size`: positions that a query sees, at least 1.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020); Mistral 7B (Jiang et al. 2023)
/// Example: window(1024)
Variant window(std::int32_t size) {
  expect_at_least("window", "size", size, 1);
  return keep([&](const At& at) { return at.query >= at.key && at.query - at.key < size; });
}

}  // namespace tilewise::zoo

#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sliding window to both sides, and global tokens at the start that see all and are seen by all.
///
///     keep(abs(query - key) <= window / 2 or query < global_tokens or key < global_tokens)
///
/// `window`: half of it lies on each side of a query, so it is even and at least 0. `global_tokens`: how many of the
/// first positions are global, at least 0.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020)
/// Example: longformer(512, 16)
Variant longformer(std::int32_t window, std::int32_t global_tokens) {
  expect_at_least("longformer", "window", window, 0);
  expect_at_least("longformer", "global_tokens", global_tokens, 0);
  if (window % 2 != 0) fail_argument("longformer(): window is {}, expected an even number", window);
  return keep([&](const At& at) {
    return abs(at.query - at.key) <= window / 2 || at.query < global_tokens || at.key < global_tokens;
  });
}

}  // namespace tilewise::zoo

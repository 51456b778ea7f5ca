#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sparse Transformer's strided pattern: the last `stride` positions, and every stride-th one before, causally.
///
///     keep(query >= key and (query - key <= stride or (query - key) % stride == 0))
///
/// The union of the paper's two factors, which a single head computes when they are merged.
///
/// `stride`: at least 1; it is part of the code.
///
/// Source: Generating Long Sequences with Sparse Transformers (Child et al. 2019)
/// Example: strided(32)
Variant strided(std::int32_t stride) {
  expect_at_least("strided", "stride", stride, 1);
  return keep([&](const At& at) {
    const Expr back = at.query - at.key;
    return back >= 0 && (back <= stride || back % stride == 0);
  });
}

}  // namespace tilewise::zoo

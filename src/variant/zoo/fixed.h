#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sparse Transformer's fixed pattern: the query's own block, and the last `summary` positions of each, causally.
///
///     keep(query >= key and (query // block == key // block or key % block >= block - summary))
///
/// The union of the paper's two factors, which a single head computes when they are merged.
///
/// `block`: at least 1; it is part of the code. `summary`: positions of each block that all later ones see, 1 to block.
///
/// Source: Generating Long Sequences with Sparse Transformers (Child et al. 2019)
/// Example: fixed(128, 8)
Variant fixed(std::int32_t block, std::int32_t summary) {
  expect_at_least("fixed", "block", block, 1);
  expect_between("fixed", "summary", summary, 1, block);
  return keep([&](const At& at) {
    const Expr same_block = floor_divide(at.query, block) == floor_divide(at.key, block);
    return at.query >= at.key && (same_block || at.key % block >= block - summary);
  });
}

}  // namespace tilewise::zoo

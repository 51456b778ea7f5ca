#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Causal between blocks, full within them.
///
///     keep(query // block >= key // block)
///
/// `block`: positions, at least 1; it is part of the code.
///
/// Source: MAGI-1: Autoregressive Video Generation at Scale (Sand AI 2025)
/// Example: block_causal(64)
Variant block_causal(std::int32_t block) {
  expect_at_least("block_causal", "block", block, 1);
  return keep([&](const At& at) { return floor_divide(at.query, block) >= floor_divide(at.key, block); });
}

}  // namespace tilewise::zoo

#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Causal, but the first `prefix` positions are seen by all.
///
///     keep(query >= key or key < prefix)
///
/// `prefix`: positions, at least 0.
///
/// Source: Exploring the Limits of Transfer Learning (T5, Raffel et al. 2020); UniLM (Dong et al. 2019)
/// Example: prefix_lm(256)
Variant prefix_lm(std::int32_t prefix) {
  expect_at_least("prefix_lm", "prefix", prefix, 0);
  return keep([&](const At& at) { return at.query >= at.key || at.key < prefix; });
}

}  // namespace tilewise::zoo

#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Causal sliding window that always keeps the first positions as well.
///
///     keep(query >= key and (query - key < window or key < sinks))
///
/// `sinks`: first positions that all later ones see, at least 0. `window`: positions, the query's own among them, at
/// least 1. The source also renumbers positions inside its cache; here they stay as they are.
///
/// Source: Efficient Streaming Language Models with Attention Sinks (Xiao et al. 2024)
/// Example: streaming_llm(4, 252)
Variant streaming_llm(std::int32_t sinks, std::int32_t window) {
  expect_at_least("streaming_llm", "sinks", sinks, 0);
  expect_at_least("streaming_llm", "window", window, 1);
  return keep([&](const At& at) { return at.query >= at.key && (at.query - at.key < window || at.key < sinks); });
}

}  // namespace tilewise::zoo

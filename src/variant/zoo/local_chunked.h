#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Causal within chunks of fixed size: no query sees beyond the start of its own chunk.
///
///     keep(query >= key and query // chunk == key // chunk)
///
/// `chunk`: positions, at least 1; it is part of the code.
///
/// Source: Llama 4's chunked attention layers (Meta 2025)
/// Example: local_chunked(512)
Variant local_chunked(std::int32_t chunk) {
  expect_at_least("local_chunked", "chunk", chunk, 1);
  return keep(
      [&](const At& at) { return at.query >= at.key && floor_divide(at.query, chunk) == floor_divide(at.key, chunk); });
}

}  // namespace tilewise::zoo

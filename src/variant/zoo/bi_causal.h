#pragma once

#include "tilewise/variant.h"

namespace tilewise::zoo {

/// A band: causal from the bottom right and inverse causal from the top left at once.
///
///     keep(0 <= key_index - query_index <= keys - queries)
///
/// Each query sees keys - queries + 1 keys. With as many queries as keys that is the diagonal; with more queries than
/// keys, nothing.
///
/// Source: MagiAttention's bi-causal mask (Sand AI 2025)
/// Example: bi_causal()
Variant bi_causal() {
  return keep([](const At& at) {
    const Expr ahead = at.key_index - at.query_index;
    return ahead >= 0 && ahead <= at.keys - at.queries;
  });
}

}  // namespace tilewise::zoo

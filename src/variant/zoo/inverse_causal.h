#pragma once

#include "tilewise/variant.h"

namespace tilewise::zoo {

/// Each query sees the key of its own index and those after it.
///
///     keep(query_index <= key_index)
///
/// By indices, the first query aligned to the first key, as in its source: the mirror image of a causal mask whose last
/// query is aligned to the last key.
///
/// Source: MagiAttention's inverse causal mask (Sand AI 2025)
/// Example: inverse_causal()
Variant inverse_causal() {
  return keep([](const At& at) { return at.query_index <= at.key_index; });
}

}  // namespace tilewise::zoo

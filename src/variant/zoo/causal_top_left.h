#pragma once

#include "tilewise/variant.h"

namespace tilewise::zoo {

/// Causal with the first query aligned to the first key, whatever the lengths and offsets.
///
///     keep(query_index >= key_index)
///
/// Differs from causal where there are not as many queries as keys.
///
/// Source: PyTorch's scaled_dot_product_attention with is_causal (2023)
/// Example: causal_top_left()
Variant causal_top_left() {
  return keep([](const At& at) { return at.query_index >= at.key_index; });
}

}  // namespace tilewise::zoo

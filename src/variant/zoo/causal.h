#pragma once

#include "tilewise/variant.h"

namespace tilewise::zoo {

/// Each query sees its own position and those before it.
///
///     keep(query >= key)
///
/// By positions: with the default query_offset the last query sees the last key, so the same variant is right when
/// decoding against a cache (bottom-right alignment). See causal_top_left for the other alignment.
///
/// Source: Attention Is All You Need (Vaswani et al. 2017)
/// Example: causal()
Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}

}  // namespace tilewise::zoo

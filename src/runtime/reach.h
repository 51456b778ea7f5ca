// How far a model generates under a variant.
#pragma once

#include <cstdint>

#include "runtime/unseen_keys.h"

namespace tilewise::runtime {

/// Whether, and how, generation goes on behind a model's context.
struct Reach {
  /// Queries see a bounded number of keys, that fit into the context: all of the last ones, and perhaps first ones.
  bool past_context = false;
  std::int64_t first_pages = 0;   ///< Pages at the beginning that every later query sees.
  std::int64_t seen_tokens = 0;   ///< At most, of a query, rounded up to pages.
  std::int64_t chunk_tokens = 0;  ///< The longest chunk behind the context whose queries stay within it.
};

/// Of a model whose positions are rotations: only distances count there, so that a window may lie anywhere. First
/// keys are to be moved after it (Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2024).
Reach reach_of(UnseenKeys& unseen, std::int64_t context, std::int64_t page_tokens);

}  // namespace tilewise::runtime

#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Documents packed one behind the other: each token sees its own document, all of it.
///
///     keep(document[query_token] == document[key_token])
///
/// Compose with causal() for language models. Tokens behind the last document are padding: they see nothing and nothing
/// sees them. Queries and keys must be the same packed tokens (no cache).
///
/// `lengths`: tokens of each document in order, none negative, 1 to 2^31 - 1 in all.
///
/// Source: Efficient Sequence Packing without Cross-contamination (Krell et al. 2021); Llama 3 (Dubey et al. 2024)
/// Example: documents([300, 500, 224])
Variant documents(const std::vector<std::int32_t>& lengths) {
  const std::int32_t total = expect_lengths("documents", "lengths", lengths);
  const Table document = frozen("document", parts_of(lengths));
  return keep([&](const At& at) {
    return inside(at.query_token, total) && inside(at.key_token, total) &&
           document.clamped(at.query_token) == document.clamped(at.key_token);
  });
}

}  // namespace tilewise::zoo

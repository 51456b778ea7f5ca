#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// One prefix and several continuations of it packed behind each other: each sees the prefix and itself, causally.
///
///     keep(query_token >= key_token and (key_token < prefix or part[query_token] == part[key_token]))
///
/// Tokens behind the last suffix are padding: they see nothing and nothing sees them. Queries and keys must be the same
/// packed tokens (no cache).
///
/// `prefix`: tokens of the prefix, at least 0. `suffixes`: tokens of each continuation, none negative, at
/// least 1 in all.
///
/// Source: Hydragen (Juravsky et al. 2024); preference tuning with shared prompts (Wang and Hegde 2024)
/// Example: shared_prefix(512, [128, 256, 128])
Variant shared_prefix(std::int32_t prefix, const std::vector<std::int32_t>& suffixes) {
  expect_at_least("shared_prefix", "prefix", prefix, 0);
  expect_lengths("shared_prefix", "suffixes", suffixes);
  std::vector<std::int32_t> lengths{prefix};
  lengths.insert(lengths.end(), suffixes.begin(), suffixes.end());
  const std::int32_t total = expect_lengths("shared_prefix", "prefix and suffixes", lengths);
  const Table part = frozen("part", parts_of(lengths));
  return keep([&](const At& at) {
    const Expr same_part = part.clamped(at.query_token) == part.clamped(at.key_token);
    return inside(at.query_token, total) && at.query_token >= at.key_token && (at.key_token < prefix || same_part);
  });
}

}  // namespace tilewise::zoo

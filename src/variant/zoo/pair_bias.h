#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// A bias for each head and entry, computed from features of the pair of tokens.
///
///     s + pair[batch, head, query_index, key_index]
///
/// `pair`: a table of reals [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis.
Variant pair_bias(const Table& pair) {
  expect_table("pair_bias", pair, Type::real, 3, 4);
  return score([&](Expr s, const At& at) { return s + read_by_entry(pair, at); });
}

/// A bias from features of token pairs; to be bound: `pair`, float32, [b, h, s_q, s_kv] or without b at rank 3.
///
///     s + pair[batch, head, query_index, key_index]
///
/// `rank`: 4 or 3.
///
/// Source: AlphaFold 2's row-wise attention with pair bias (Jumper et al. 2021)
/// Example: pair_bias(4)
Variant pair_bias(std::int32_t rank = 4) {
  expect_between("pair_bias", "rank", rank, 3, 4);
  return pair_bias(Table("pair", DType::float32, rank));
}

}  // namespace tilewise::zoo

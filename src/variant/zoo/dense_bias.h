#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// An additive mask given entry by entry.
///
///     s + addend[query_index, key_index]
///
/// `addend`: a table of reals [s_q, s_kv], [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis. -inf
/// removes an entry.
Variant dense_bias(const Table& addend) {
  expect_table("dense_bias", addend, Type::real, 2, 4);
  return score([&](Expr s, const At& at) { return s + read_by_entry(addend, at); });
}

/// An additive mask given entry by entry; to be bound: `addend`, a float32 table of the given rank.
///
///     s + addend[query_index, key_index], behind head at rank 3, batch and head at rank 4
///
/// -inf removes an entry.
///
/// `rank`: 2 for [s_q, s_kv], 3 for [h, s_q, s_kv], 4 for [b, h, s_q, s_kv].
///
/// Source: the float attn_mask of PyTorch's scaled_dot_product_attention (2023)
/// Example: dense_bias(2)
Variant dense_bias(std::int32_t rank = 2) {
  expect_between("dense_bias", "rank", rank, 2, 4);
  return dense_bias(Table("addend", DType::float32, rank));
}

}  // namespace tilewise::zoo

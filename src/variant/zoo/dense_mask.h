#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// A mask given entry by entry.
///
///     keep(mask[query_index, key_index])
///
/// `mask`: a bool table [s_q, s_kv], [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis.
Variant dense_mask(const Table& mask) {
  expect_table("dense_mask", mask, Type::boolean, 2, 4);
  return keep([&](const At& at) { return read_by_entry(mask, at); });
}

/// A mask given entry by entry; to be bound: `mask`, a bool table of the given rank.
///
///     keep(mask[query_index, key_index]), behind head at rank 3, batch and head at rank 4
///
/// `rank`: 2 for [s_q, s_kv], 3 for [h, s_q, s_kv], 4 for [b, h, s_q, s_kv].
///
/// Source: the bool attn_mask of PyTorch's scaled_dot_product_attention (2023)
/// Example: dense_mask(2)
Variant dense_mask(std::int32_t rank = 2) {
  expect_between("dense_mask", "rank", rank, 2, 4);
  return dense_mask(Table("mask", DType::boolean, rank));
}

}  // namespace tilewise::zoo

#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// A learned bias for each head and pair of positions.
///
///     s + bias[head, query, key]
///
/// `bias`: a table of reals [heads, positions, positions]. By positions, so that a row keeps its biases when decoding
/// against a cache; see pair_bias for a table of one call's own entries.
Variant learned_bias(const Table& bias) {
  expect_table("learned_bias", bias, Type::real, 3, 3);
  return score([&](Expr s, const At& at) { return s + bias(at.head, at.query, at.key); });
}

/// A learned bias by head and positions; to be bound: `bias`, float32 [heads, positions, positions].
///
///     s + bias[head, query, key]
///
/// Source: LeViT's attention biases (Graham et al. 2021)
/// Example: learned_bias()
Variant learned_bias() { return learned_bias(Table("bias", DType::float32, 3)); }

}  // namespace tilewise::zoo

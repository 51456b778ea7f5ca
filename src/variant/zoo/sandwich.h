#pragma once

#include <cmath>

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sandwich: the inner product of two sinusoidal position embeddings as a bias, compressed by head.
///
///     s + sum(cos((query - key) / 10000^(2 i / dimension)) for i in 0 ... dimension / 2 - 1) / (8 (head + 1) / heads)
///
/// A bias without parameters that falls logarithmically with distance.
///
/// `heads`: query heads, at least 1. `dimension`: of the embeddings, even, 2 to 1024; the paper's choice is 128.
///
/// Source: Dissecting Transformer Length Extrapolation, Sandwich (Chi et al. 2023)
/// Example: sandwich(12, 128)
Variant sandwich(std::int32_t heads, std::int32_t dimension = 128) {
  expect_at_least("sandwich", "heads", heads, 1);
  expect_between("sandwich", "dimension", dimension, 2, 1024);
  if (dimension % 2 != 0) fail_argument("sandwich(): dimension is {}, expected an even number", dimension);
  return score([&](Expr s, const At& at) {
    const Expr distance = to_real(at.query - at.key);
    Expr product = cos(distance);
    for (std::int32_t i = 1; i < dimension / 2; ++i) {
      product = product + cos(distance * std::pow(10000.0, -2.0 * i / dimension));
    }
    return s + product / (to_real(at.head + 1) * (8.0 / heads));
  });
}

}  // namespace tilewise::zoo

#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Training of block diffusion: a noisy copy of a sequence, and the clean one behind it, in one pass.
///
///     keep(same half and same block
///          or noisy query, clean key and block(query) > block(key)
///          or clean query, clean key and block(query) >= block(key))
///
/// Positions 0 to length - 1 are the noisy half, length to 2 * length - 1 the clean one; block() counts from 0 in each.
/// A noisy block sees itself and the clean blocks before it, a clean block the clean blocks up to itself. Positions
/// from 2 * length on see nothing and nothing sees them.
///
/// `block`: positions, at least 1; it is part of the code. `length`: of one half, 1 to 2^30 - 1.
///
/// Source: Block Diffusion, BD3-LM (Arriola et al. 2025)
/// Example: block_diffusion(16, 512)
Variant block_diffusion(std::int32_t block, std::int32_t length) {
  expect_at_least("block_diffusion", "block", block, 1);
  expect_between("block_diffusion", "length", length, 1, (1 << 30) - 1);
  return keep([&](const At& at) {
    const Expr clean_query = at.query >= length, clean_key = at.key >= length;
    const Expr query_block = floor_divide(select(clean_query, at.query - length, at.query), block);
    const Expr key_block = floor_divide(select(clean_key, at.key - length, at.key), block);
    const Expr to_noisy = !clean_query && !clean_key && query_block == key_block;
    const Expr from_noisy = !clean_query && clean_key && query_block > key_block;
    const Expr among_clean = clean_query && clean_key && query_block >= key_block;
    return inside(at.query, 2 * length) && inside(at.key, 2 * length) && (to_noisy || from_noisy || among_clean);
  });
}

}  // namespace tilewise::zoo

#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// A mask given block by block.
///
///     keep(blocks[query_index // block, key_index // block])
///
/// `block`: queries and keys of a block, at least 1; it is part of the code. `blocks`: a bool table
/// [ceil(s_q / block), ceil(s_kv / block)], behind [h] or [b, h] at rank 3 or 4; a stride of 0 shares an axis.
Variant block_sparse(std::int32_t block, const Table& blocks) {
  expect_at_least("block_sparse", "block", block, 1);
  expect_table("block_sparse", blocks, Type::boolean, 2, 4);
  return keep([&](const At& at) {
    const Expr row = floor_divide(at.query_index, block), column = floor_divide(at.key_index, block);
    switch (blocks.rank()) {
      case 2: return blocks(row, column);
      case 3: return blocks(at.head, row, column);
      default: return blocks(at.batch, at.head, row, column);
    }
  });
}

/// A mask given block by block; to be bound: `blocks`, a bool table of the given rank.
///
///     keep(blocks[query_index // block, key_index // block]), behind head at rank 3, batch and head at rank 4
///
/// `block`: queries and keys of a block, at least 1; it is part of the code. `rank`: 2 for [ceil(s_q / block),
/// ceil(s_kv / block)], 3 and 4 with [h] or [b, h] before.
///
/// Source: GPU Kernels for Block-Sparse Weights (Gray, Radford, Kingma 2017); FlexAttention's BlockMask (2024)
/// Example: block_sparse(128)
Variant block_sparse(std::int32_t block, std::int32_t rank = 2) {
  expect_between("block_sparse", "rank", rank, 2, 4);
  return block_sparse(block, Table("blocks", DType::boolean, rank));
}

}  // namespace tilewise::zoo

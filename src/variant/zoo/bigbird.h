#pragma once

#include <algorithm>
#include <cstdlib>

#include "core/philox.h"
#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Which key blocks each query block sees, [blocks, blocks].
class BigbirdMap {
 public:
  BigbirdMap(std::int32_t blocks, std::int32_t window_blocks, std::int32_t global_blocks)
      : blocks_(blocks), seen_(static_cast<std::size_t>(blocks) * static_cast<std::size_t>(blocks)) {
    for (std::int32_t row = 0; row < blocks; ++row) {
      for (std::int32_t column = 0; column < (row < global_blocks ? blocks : std::min(global_blocks, blocks)); ++column)
        at(row, column) = 1;
      const std::int32_t reach = window_blocks / 2;
      const std::int32_t last = std::min(row + reach, blocks - 1);
      for (std::int32_t column = std::max(row - reach, 0); column <= last; ++column) at(row, column) = 1;
    }
  }

  /// Adds up to `count` distinct blocks to each row, drawn among those that it does not see yet.
  void add_random(std::int32_t count, std::int32_t seed) {
    for (std::int32_t row = 0; row < blocks_; ++row) {
      const auto begin = seen_.begin() + std::ptrdiff_t{row} * blocks_;
      std::int32_t left = std::min(count, static_cast<std::int32_t>(std::count(begin, begin + blocks_, 0)));
      for (std::uint32_t draw = 0; left > 0; ++draw) {
        for (std::uint32_t word :
             philox4x32({draw, static_cast<std::uint32_t>(row), 0, 0}, {static_cast<std::uint32_t>(seed), 0})) {
          const std::uint64_t column = (std::uint64_t{word} * static_cast<std::uint64_t>(blocks_)) >> 32;
          std::uint8_t& seen = at(row, static_cast<std::int32_t>(column));
          if (left == 0 || seen != 0) continue;
          seen = 1;
          --left;
        }
      }
    }
  }

  const std::vector<std::uint8_t>& values() const { return seen_; }

 private:
  std::uint8_t& at(std::int32_t row, std::int32_t column) {
    return seen_[static_cast<std::size_t>(row) * static_cast<std::size_t>(blocks_) + static_cast<std::size_t>(column)];
  }

  std::int32_t blocks_;
  std::vector<std::uint8_t> seen_;  // [blocks, blocks]
};

/// Blocks of a window, global blocks at the start, and random ones: BigBird's internal transformer construction.
///
///     keep(abs(query // block - key // block) <= window_blocks // 2 or query // block < global_blocks
///          or key // block < global_blocks or random[query // block, key // block])
///
/// The random blocks of a row are drawn without repetition among those that it does not see yet, in the order of the
/// words of Philox4x32-10 with key (seed, 0) and counters (0, row, 0, 0), (1, row, 0, 0), ...: word * blocks / 2^32,
/// rounded down. They are the same on every platform. Positions from `length` on see nothing and nothing sees them.
///
/// `block`: positions, at least 1; it is part of the code. `window_blocks`: odd, a block's own in the middle.
/// `global_blocks`, `random_blocks`: at least 0; a row takes fewer random ones where fewer are left. `length`: at most
/// 16384 blocks. `seed`: any int.
///
/// Source: Big Bird: Transformers for Longer Sequences (Zaheer et al. 2020)
/// Example: bigbird(64, 3, 1, 3, 1024, 0)
Variant bigbird(std::int32_t block, std::int32_t window_blocks, std::int32_t global_blocks, std::int32_t random_blocks,
                std::int32_t length, std::int32_t seed) {
  expect_at_least("bigbird", "block", block, 1);
  expect_at_least("bigbird", "window_blocks", window_blocks, 1);
  expect_odd("bigbird", "window_blocks", window_blocks);
  expect_at_least("bigbird", "global_blocks", global_blocks, 0);
  expect_at_least("bigbird", "random_blocks", random_blocks, 0);
  expect_at_least("bigbird", "length", length, 1);
  constexpr std::int32_t kMostBlocks = 16384;  // a map of 256 MiB
  const std::int32_t blocks = (length - 1) / block + 1;
  expect_between("bigbird", "length / block", blocks, 1, kMostBlocks);

  // Beyond `blocks` a window only covers what is there; cut first, so that sums stay in range.
  BigbirdMap map(blocks, std::min(window_blocks, 2 * blocks + 1), global_blocks);
  map.add_random(random_blocks, seed);
  const Table seen = frozen_map("seen", map.values(), blocks, blocks);
  return keep([&](const At& at) {
    return inside(at.query, length) && inside(at.key, length) &&
           seen.clamped(floor_divide(at.query, block), floor_divide(at.key, block));
  });
}

}  // namespace tilewise::zoo

// Stages and splits of decoding: plain arithmetic, no GPU needed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cuda/plan/forward_plan.h"

namespace tilewise::cuda {

/// A block has 4 warps and takes 16 rows, queries of all heads of a key head, against tiles of 64 keys.
struct DecodePlan {
  static constexpr int kRows = 16, kKeys = 64, kWarps = 4;

  int stages = 2;  // tiles of keys and values in shared memory
  int blocks = 1;  // on a multiprocessor at a time

  int threads() const { return kWarps * 32; }

  /// Dynamic shared memory of a block: the stages; in the end each warp's sums take their place.
  std::int64_t shared_bytes(const ForwardShape& shape) const;

  std::string text() const;
};

/// The plan that keeps most bytes on their way from memory; nothing where the shape is none for decoding: dropout, rows
/// that are not aligned, or tiles of which two do not fit into shared memory.
std::optional<DecodePlan> choose_decode(const ForwardShape& shape, const Multiprocessor& limits);

/// Tiles of 16 rows that cover the queries of a key head.
std::int64_t decode_row_tiles(std::int64_t heads_per_kv, std::int64_t s_q);

/// Into how many parts the keys of every sequence are split so that `units` (sequences times key heads times row tiles)
/// fill the `slots`, blocks that run at a time, in whole rounds: the fewest that come within 5% of the best. A split
/// has 4 tiles at least. 1 where there is enough to do without.
std::int64_t decode_splits(std::int64_t units, std::int64_t slots, std::int64_t s_kv);

/// At most this many splits times units, however they are chosen: what partial results take memory for.
std::int64_t most_decode_parts(std::int64_t units, std::int64_t slots);

}  // namespace tilewise::cuda

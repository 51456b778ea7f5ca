// Tiles, stages and splits of decoding: plain arithmetic, no GPU needed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda/plan/forward_plan.h"

namespace tilewise::cuda {

/// A block takes rows, queries of all heads of a key head, against tiles of keys. With head dimensions up to 256 it has
/// 4 warps, each with 16 keys of a tile for itself; beyond that it has 8, which share both the scores and the output
/// (device/decode.h, device/wide_decode.h; for compute capability 9.0 device/sm90_latent_decode.h).
struct DecodePlan {
  bool is_wide = false;
  int rows = 16, keys = 64;
  int stages = 2;               // tiles of keys and values in shared memory
  int blocks = 1;               // on a multiprocessor at a time
  bool values_in_keys = false;  // v is the first columns of k, and is not read again; of wide plans
  bool is_hopper = false;       // by wgmma, of wide plans whose values are in the keys

  static constexpr int kMostDimension = 576;

  int threads() const { return is_hopper ? 512 : is_wide ? 256 : 128; }

  /// Warps one above the other, in a tile of scores and in the output of a wide plan.
  int score_row_warps() const { return rows / 16; }
  int output_row_warps() const { return rows > 32 ? rows / 32 : 1; }

  /// Dynamic shared memory of a block: the stages; in the end the sums take their place.
  std::int64_t shared_bytes(const ForwardShape& shape) const;

  std::string text() const;

  bool operator==(const DecodePlan&) const = default;
};

/// Throws Error(unsupported) for a dtype or head dimensions that decoding does not take: beyond the forward kernel's,
/// multiples of 8 up to 576.
void validate_decode(const ForwardShape& shape);

/// Whether only a wide plan takes the shape.
bool needs_wide_decode(const ForwardShape& shape);

/// Plans worth measuring for so many rows of a key head, first the one that is believed to read the fastest.
/// Empty where the shape is none for decoding: dropout, rows that are not aligned, the largest scores of heads, or
/// tiles of which two do not fit into shared memory.
/// `has_wgmma`: the GPU is one of compute capability 9.0, whose copy engine and products plans may use. `has_scores`:
/// the variant has score functions. `has_many_units`: there are two for each multiprocessor, which then has enough to
/// do without splits.
std::vector<DecodePlan> decode_candidates(const ForwardShape& shape, const Multiprocessor& limits, std::int64_t rows,
                                          bool has_wgmma = false, bool has_scores = false, bool has_many_units = false);

/// The first of the candidates.
std::optional<DecodePlan> choose_decode(const ForwardShape& shape, const Multiprocessor& limits, std::int64_t rows,
                                        bool has_wgmma = false, bool has_scores = false, bool has_many_units = false);

/// Tiles of rows that cover the queries of a key head.
std::int64_t decode_row_tiles(const DecodePlan& plan, std::int64_t heads_per_kv, std::int64_t s_q);

/// Into how many parts the keys of every sequence are split so that `units` (sequences times key heads times row tiles)
/// fill the `slots`, blocks that run at a time, in whole rounds: the fewest that come within 5% of the best. A split
/// has 4 tiles at least. 1 where there is enough to do without. Kernels split shorter sequences into fewer.
std::int64_t decode_splits(std::int64_t units, std::int64_t slots, std::int64_t s_kv, std::int64_t tile_keys);

/// At most this many splits times units, however they are chosen: what partial results take memory for.
std::int64_t most_decode_parts(std::int64_t units, std::int64_t slots);

}  // namespace tilewise::cuda

// Which tiles of a problem a variant's mask leaves empty, partial or full, and the memory traffic that follows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tilewise/problem.h"
#include "tilewise/tensor.h"
#include "tilewise/variant.h"

namespace tilewise {

/// What a mask leaves of a tile. `empty` keeps no entry and `full` keeps all, proven; `partial` is everything else, and
/// also what could not be proven.
enum class TileClass : std::uint8_t { empty, partial, full };

/// "empty", "partial" or "full".
const char* to_string(TileClass tile_class);

/// Entries of a tile along both axes.
struct TileSizes {
  std::int64_t queries = 128;
  std::int64_t keys = 128;
};

/// The class of every tile of one sequence and head. Tile (i, j) holds the query indices from i * tile.queries and the
/// key indices from j * tile.keys on, as far as the sequence goes; keys before key_start count as removed.
struct TileMap {
  TileSizes tile;
  std::int64_t rows = 0;                     ///< ceil(s_q / tile.queries)
  std::int64_t columns = 0;                  ///< ceil(s_kv / tile.keys)
  std::vector<TileClass> classes;            // [rows, columns]
  std::vector<std::int64_t> kept_in_row;     // [rows], tiles that are not empty
  std::vector<std::int64_t> kept_in_column;  // [columns]
  std::int64_t empty = 0, partial = 0, full = 0;

  TileClass at(std::int64_t row, std::int64_t column) const {
    return classes[static_cast<std::size_t>(row * columns + column)];
  }
  std::int64_t kept() const { return partial + full; }
  /// Kept tiles over all tiles; 0 where there is none.
  double kept_share() const;
};

/// Classifies all tiles by descending from large boxes to tiles. The mask is what the variant's keeps, and its scores
/// that can reach -inf, remove. Throws Error(invalid_argument) on bindings that do not fit the variant, an invalid
/// problem, tile sizes below 1, and a sequence or head outside the problem.
TileMap classify_tiles(const Variant& variant, const Bindings& bindings, const Problem& problem, TileSizes tile = {},
                       std::int64_t sequence = 0, std::int64_t head = 0);

/// How many entries a mask keeps: between `least` and `most`. They are equal unless some entry's fate depends on its
/// score, or the count was given up.
struct EntryCount {
  std::int64_t least = 0;
  std::int64_t most = 0;
  std::int64_t all = 0;  ///< s_q * s_kv

  bool is_exact() const { return least == most; }
};

/// Counts the entries that one sequence and head keeps, descending to single entries where that is needed. After
/// `max_boxes` boxes the rest counts as unknown. Throws as classify_tiles.
EntryCount count_entries(const Variant& variant, const Bindings& bindings, const Problem& problem,
                         std::int64_t sequence = 0, std::int64_t head = 0, std::int64_t max_boxes = 1 << 24);

/// Proves that every table read which is not declared clamped is inside its table for every kept entry of the problem;
/// a sink's for every row. Otherwise throws, naming the table, the index, its extent and an entry:
/// Error(invalid_argument) where the index is outside for an entry that is not proven to be removed, and
/// Error(unsupported) where it only may be, or the search is given up.
/// Tables count by their shapes and declared ranges (frozen ones by their data), parameters by their declared ranges:
/// what is proven holds for every binding of these shapes. A read inside a select() counts whichever side is taken.
///   table_extents [variant.tables()]: each table's extents; a frozen table's are not looked at.
void expect_reads_inside(const Variant& variant, std::span<const std::vector<std::int64_t>> table_extents,
                         const Problem& problem);

/// Extents with which no unclamped read leaves its table above, whatever is kept: one more than each index's upper
/// bound over all entries, at least 1; a frozen table's own extents. [variant.tables()] Indices that follow from a
/// table's data are bounded by what it declares. Throws Error on an invalid problem.
std::vector<std::vector<std::int64_t>> fitting_extents(const Variant& variant, const Problem& problem);

/// One sequence and one query head of attention, as its memory traffic sees it. Multiply by b * h_q for all of them;
/// reuse of keys and values between the query heads of a group, or by caches, is not counted on.
struct TrafficShape {
  std::int64_t s_q = 0, s_kv = 0;
  std::int64_t d_qk = 0, d_v = 0;
  std::int64_t bytes_q = 2;   ///< Of an element of q, and of d_q where it is written for good.
  std::int64_t bytes_kv = 2;  ///< Of k, v and their gradients.
  std::int64_t bytes_o = 2;   ///< Of o and d_o.
  std::int64_t bytes_s = 2;   ///< Of scores and weights, where standard attention stores them.
};

/// Bytes between slow and fast memory. A double holds them exactly up to 2^53.
struct Traffic {
  double read = 0;
  double written = 0;

  double total() const { return read + written; }
  friend bool operator==(const Traffic&, const Traffic&) = default;
};

/// Standard attention, forward: Algorithm 0 of Dao et al., FlashAttention (2022). Reads q and k, writes S; reads S,
/// writes P; reads P and v, writes o: each matrix once a line, s_q * s_kv of them four times, whatever the mask.
Traffic standard_forward_traffic(const TrafficShape& shape);

/// Standard attention, backward: Algorithm 3 of the same paper. d_v = P^T d_o; d_P = d_o v^T; d_S from P and d_P;
/// d_q = d_S k; d_k = d_S^T q: s_q * s_kv elements seven times.
Traffic standard_backward_traffic(const TrafficShape& shape);

/// Tiled attention, forward, with a tile of queries in fast memory while its kept tiles of keys and values pass by
/// (Dao, FlashAttention-2, 2023): q once where a row of tiles keeps anything, o and the float32 lse once, k and v once
/// for each kept tile. Throws Error(invalid_argument) where the map is not of these lengths.
Traffic tiled_forward_traffic(const TrafficShape& shape, const TileMap& map);

/// Tiled attention, backward: first D = rowsum(d_o * o), float32, from d_o and o; then, with a tile of keys and values
/// in fast memory, q, d_o, lse and D once for each kept tile, and d_q in float32 read and written for each of them.
/// d_k and d_v are written once, and d_q once more from float32 to its own type. Throws as tiled_forward_traffic.
Traffic tiled_backward_traffic(const TrafficShape& shape, const TileMap& map);

/// FlashAttention's Algorithm 1 (Dao et al. 2022), forward and without a mask, on a fast memory of M elements: key
/// tiles of B_c = ceil(M / 4d) and query tiles of B_r = min(B_c, d), where d is the mean of d_qk and d_v. Keys outside,
/// queries inside: k and v once; q, o and two float32 statistics read, o and the statistics written, for each of
/// ceil(s_kv / B_c) key tiles. So it falls as 1 / M: of the order s_q s_kv d^2 / M (Theorem 2), which no exact
/// algorithm beats for all M between d and N d (Proposition 3). Throws Error(invalid_argument) for M below 4d, where
/// not one key and query fit.
Traffic flash_forward_traffic(const TrafficShape& shape, std::int64_t fast_elements);

/// The tiles that Algorithm 1 takes at M elements.
TileSizes flash_tiles(const TrafficShape& shape, std::int64_t fast_elements);

}  // namespace tilewise

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

/// Throws Error(invalid_argument) unless every table read that is not declared clamped is inside its table for every
/// kept entry of the problem, naming the table, the index, the extent and an entry; throws Error(unsupported) where
/// that could be neither proven nor refuted. Tables count by their shapes and declared ranges (frozen ones by their
/// data), parameters by their declared ranges: so it holds for every binding of these shapes. A read inside a select()
/// counts whichever side is taken.
///   table_extents [variant.tables()]: each table's extents; a frozen table's are not looked at.
void expect_reads_inside(const Variant& variant, std::span<const std::vector<std::int64_t>> table_extents,
                         const Problem& problem);

}  // namespace tilewise

// The key tiles that a row of query tiles visits.
#pragma once

#include "arguments.h"

namespace tilewise::cuda {

/// What a mask does to a part of a tile.
enum PartClass { kEmptyPart = 0, kFullPart = 1, kPartialPart = 2 };

/// A visit: which tile, whether entries of it may be removed or past an end, and where that is so, which of its parts:
/// two bits a part, those of the first queries first. How large parts are is the kernel's choice (ListTile in
/// plan/forward_plan.h); many have 64 queries by half of the tile's keys.
///
/// An entry of a list is an int: the bit of partial tiles, then the parts' bits (also of full ones), then the tile's
/// number.
struct Visit {
  static constexpr int kMostParts = 6, kTileAt = 1 + 2 * kMostParts;
  static constexpr int kAllFull = 0x555, kAllPartial = 0xaaa;

  int entry;

  __device__ static Visit full(int tile) { return {tile << kTileAt | kAllFull << 1}; }
  __device__ static Visit partial(int tile, int parts = kAllPartial) { return {tile << kTileAt | parts << 1 | 1}; }
  __device__ int tile() const { return entry >> kTileAt; }
  __device__ bool is_partial() const { return (entry & 1) != 0; }
  __device__ int part(int number) const { return entry >> (1 + 2 * number) & 3; }
  /// Of parts of 64 queries by half of the keys.
  __device__ int part(int queries, int keys) const { return entry >> (1 + 2 * (2 * queries + keys)) & 3; }
  /// Whether a mask removes all entries of 64 queries.
  __device__ bool misses(int queries) const { return (entry >> (1 + 4 * queries) & 15) == 0; }
  /// Whether a mask removes some entries of 64 queries.
  __device__ bool cuts(int queries) const { return (entry >> (1 + 4 * queries) & 15) != (kFullPart | kFullPart << 2); }
};

/// A number that all lanes have, in a register of the warp's: a reduction tells the compiler.
__device__ inline int of_warp(int x) { return static_cast<int>(__reduce_or_sync(~0u, static_cast<unsigned>(x))); }

/// Reads a number where this stands, and not where the compiler would like to.
__device__ inline int read_here(const int* from) {
  int number;
  asm volatile("ld.global.s32 %0, [%1];" : "=r"(number) : "l"(from) : "memory");
  return number;
}

// A walk gives a visit by its index at once, or in two steps, of which the first, read(index), is what waits for
// memory; then the warp shares the visit's register.

/// All tiles that have keys; only the first and the last have ends in them.
struct DenseWalk {
  int first, tiles;
  int ragged;  // bit 0: the first tile begins before key_start; bit 1: the last one reaches past the keys

  __device__ DenseWalk(const SequenceShape& shape, int key_tile)
      : first(shape.key_start / key_tile),
        tiles(shape.key_start < shape.keys ? (shape.keys - 1) / key_tile + 1 - first : 0),
        ragged((shape.key_start % key_tile != 0 ? 1 : 0) | (shape.keys % key_tile != 0 ? 2 : 0)) {}

  /// Of so many tiles as another one of the same sequence has found.
  __device__ DenseWalk(const SequenceShape& shape, int key_tile, int count)
      : first(shape.key_start / key_tile),
        tiles(count),
        ragged((shape.key_start % key_tile != 0 ? 1 : 0) | (shape.keys % key_tile != 0 ? 2 : 0)) {}

  __device__ int count() const { return tiles; }
  __device__ Visit visit(int index) const {
    const int ends = (index == 0 ? 1 : 0) | (index == tiles - 1 ? 2 : 0);
    return (ends & ragged) != 0 ? Visit::partial(first + index) : Visit::full(first + index);
  }
  __device__ int read(int) const { return 0; }
  __device__ Visit visit(int index, int) const { return visit(index); }
};

/// The tiles of a walk, its visit `start` and up to kLead - 1 behind it in front of all others. These are in order, so
/// that blocks at different query tiles of a head read about the same keys at a time.
template <class Walk, int kLead>
struct LedWalk {
  Walk walk;
  int start;

  __device__ int count() const { return walk.count(); }
  __device__ Visit visit(int index) const { return walk.visit(place(index)); }
  __device__ int read(int index) const { return walk.read(place(index)); }
  __device__ Visit visit(int index, int read) const { return walk.visit(place(index), read); }

 private:
  __device__ int place(int index) const {
    const int lead = kLead == 1 ? 1 : ::min(kLead, count() - start);
    return index < lead ? start + index : index < start + lead ? index - lead : index;
  }
};

/// What one thread learns of a walk for others.
struct WalkStart {
  int count;  // of visits
  int index;  // of the visit that a led walk begins with
  int entry;  // of that visit

  /// From `tile` on, or about there where the walk leaves tiles out.
  template <class Walk>
  __device__ static WalkStart near(const Walk& walk, int tile) {
    const int last = walk.count() - 1;
    if (last < 0) return {0, 0, 0};
    const int index = ::min(::max(tile - walk.visit(0).tile(), 0), last);
    return {last + 1, index, walk.visit(index).entry};
  }
};

/// Whole tiles, one behind the other.
struct TilesInOrder {
  int first, tiles;

  __device__ int count() const { return tiles; }
  __device__ Visit visit(int index) const { return Visit::full(first + index); }
  __device__ int read(int) const { return 0; }
  __device__ Visit visit(int index, int) const { return visit(index); }
};

/// The row that a block takes.
__device__ inline int row_of(const TileLists& lists, int sequence, int head, int block) {
  if (lists.order == nullptr) return block;  // there is but one
  return __ldg(&lists.order[sequence * lists.sequence_rows + head * lists.head_rows + block].row);
}

/// Likewise, with the beginning of its walk; where `order` is not null.
__device__ inline RowStart row_start(const TileLists& lists, int sequence, int head, int block) {
  const RowStart* const from = lists.order + sequence * lists.sequence_rows + head * lists.head_rows + block;
  const int4 start = __ldg(reinterpret_cast<const int4*>(from));
  return {start.x, start.y, start.z, start.w};
}

/// What a block of a grid [rows, heads] takes: a row by its place in their order, of a head, and a part of its list.
struct RowPart {
  int place, head, part;
};

/// What block (x, y) of a grid of `rows` by `heads` takes: the first row of all heads, then the next ones. Rows that
/// have lists come longest first, so that what is left in the end is short; and where all are as long, a tile of keys
/// is wanted by fewer blocks at a time than of head by head: 373 -> 385 TFLOP/s on an H200. Of rows far longer than
/// most `parts` are taken one behind the other, for which `rows` counts as many.
__device__ inline RowPart row_part(const TileLists& lists, int parts, int x, int y, int rows, int heads) {
  const int block = y * rows + x, of_long = lists.long_rows * parts * heads;
  if (block < of_long) return {block / heads / parts, block % heads, block / heads % parts};
  return {lists.long_rows + (block - of_long) / heads, block % heads, 0};
}

/// Likewise whole rows, head by head but for the long ones, which come first, of all heads: the last head's would
/// outlast everything. Where all heads take turns, the second-level cache holds too little of each.
__device__ inline RowPart row_of_heads(const TileLists& lists, int x, int y, int rows, int heads) {
  const int block = y * rows + x, of_long = lists.long_rows * heads, others = rows - lists.long_rows;
  if (block < of_long) return {block / heads, block % heads, 0};
  return {lists.long_rows + (block - of_long) % others, (block - of_long) / others, 0};
}

/// By how many queries, a multiple of a part's, a sequence's first tile begins ahead of it where its last one is to be
/// whole: a causal mask leaves the first one the fewest keys, so that there the least is done for rows that do not
/// exist.
__device__ inline int lead_of(int queries, int tile, int part) { return (tile - queries % tile) % tile / part * part; }

/// The key tile in which a query meets its own position, or the first one.
__device__ inline int tile_of_own_position(const SequenceShape& shape, int query, int keys) {
  return ::max(query + shape.query_offset - shape.key_offset, 0) / keys;
}

/// Where turns in the order of the longest list first lie, behind those of the shortest first (TileLists::turns).
__device__ inline long long turns_of_longest_first(const TileLists& lists, int sequences) {
  return sequences * lists.sequence_rows * lists.capacity;
}

/// The number of a row's list.
__device__ inline long long list_of(const TileLists& lists, int sequence, int head, int row) {
  return sequence * lists.sequence_rows + head * lists.head_rows + row;
}

/// The tiles of a list.
struct ListWalk {
  const int* tiles;
  int listed;

  __device__ ListWalk(const int* list, int count) : tiles(list), listed(count) {}
  __device__ ListWalk(const TileLists& lists, long long list, int count)
      : ListWalk(lists.tiles + list * lists.capacity, count) {}
  __device__ ListWalk(const TileLists& lists, int sequence, int head, int row)
      : ListWalk(lists, list_of(lists, sequence, head, row), lists.count[list_of(lists, sequence, head, row)]) {}

  /// A part of so many, about as long as the others.
  __device__ ListWalk part(int number, int parts) const {
    ListWalk walk = *this;
    const int begin = static_cast<int>(static_cast<long long>(listed) * number / parts);
    walk.tiles += begin;
    walk.listed = static_cast<int>(static_cast<long long>(listed) * (number + 1) / parts) - begin;
    return walk;
  }

  __device__ int count() const { return listed; }
  __device__ Visit visit(int index) const { return {__ldg(tiles + index)}; }
  __device__ int read(int index) const { return read_here(tiles + index); }
  __device__ Visit visit(int, int read) const { return {of_warp(read)}; }
};

}  // namespace tilewise::cuda

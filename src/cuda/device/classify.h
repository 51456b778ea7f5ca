// Lists of the tiles that a variant's mask keeps, made on the GPU by interval arithmetic: nothing of the size of the
// mask is ever written.
//
// A kernel's Mask has
//   Arguments                   what the call binds
//   Sequence, sequence_of(...)  of a (sequence, head)
//   Uniform, Query, Key         hoisted bounds: uniform_bounds, query_bounds, key_bounds
//   kept(...)                   whether a box is kept, as Truth
#pragma once

#include "arguments.h"
#include "bounds.h"
#include "walk.h"

namespace tilewise::cuda {

/// Entries of one sequence: query indices [query_begin, query_end) and key indices [key_begin, key_end).
struct Entries {
  int query_begin, query_end, key_begin, key_end;

  __device__ bool is_empty() const { return query_begin >= query_end || key_begin >= key_end; }
  __device__ bounds::Ints queries() const { return {double(query_begin), double(query_end - 1)}; }
  __device__ bounds::Ints keys() const { return {double(key_begin), double(key_end - 1)}; }
};

/// The first query of a tile; below 0 where it begins ahead of its sequence.
__device__ inline int first_query_of(const ClassifyArguments& arguments, const SequenceShape& shape, int query_tile) {
  const int tile = arguments.tile_queries;
  return query_tile * tile -
         (arguments.ends_with_queries != 0 ? lead_of(shape.queries, tile, arguments.part_queries) : 0);
}

/// The list of one row of tiles to a block. A thread classifies a tile; a tile that interval arithmetic leaves open is
/// looked at in its corners and then in 16 parts, and is partial where that shows both kinds of entries or is open
/// still.
template <class Mask>
class RowClassifier {
 public:
  static constexpr int kThreads = 256;

  __device__ RowClassifier(const ClassifyArguments& arguments, const typename Mask::Arguments& bound)
      : arguments_(arguments),
        bound_(bound),
        shape_(arguments.sequences[blockIdx.z]),
        sequence_(Mask::sequence_of(shape_, blockIdx.z, blockIdx.y, blockIdx.y / arguments.heads_per_kv)),
        uniform_(Mask::uniform_bounds(bound, sequence_)) {}

  __device__ void run() {
    const long long list = blockIdx.z * arguments_.lists.sequence_rows + blockIdx.y * arguments_.lists.head_rows +
                           static_cast<int>(blockIdx.x);
    int* const tiles = arguments_.tiles + list * arguments_.lists.capacity;
    const int columns = columns_of_sequence();
    int listed = 0;
    for (int first = 0; first < columns; first += kThreads) {
      const int column = first + static_cast<int>(threadIdx.x);
      const int entry = column < columns ? classify(column) : kEmpty;
      if (arguments_.turns != nullptr && column < columns) {
        arguments_.turns[list * arguments_.lists.capacity + column] = entry != kEmpty ? 1 : 0;
      }
      const int place = place_of(entry != kEmpty, listed);
      if (entry != kEmpty) tiles[place] = entry;
    }
    if (threadIdx.x == 0) arguments_.count[list] = listed;
  }

 private:
  static constexpr int kEmpty = -1;

  /// Where this thread's tile goes behind the `listed` ones, to which those of the whole block are added.
  __device__ static int place_of(bool keeps, int& listed) {
    __shared__ int kept_by_warp[kThreads / 32];
    const unsigned votes = __ballot_sync(~0u, keeps);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();  // all are done with the counts of the round before
    if (lane == 0) kept_by_warp[warp] = __popc(votes);
    __syncthreads();
    int place = listed + __popc(votes & ((1u << lane) - 1));
#pragma unroll
    for (int i = 0; i < kThreads / 32; ++i) {
      place += i < warp ? kept_by_warp[i] : 0;
      listed += kept_by_warp[i];
    }
    return place;
  }

  __device__ static int tiles_of(int length, int tile) { return (length + tile - 1) / tile; }
  __device__ int columns_of_sequence() const {
    return arguments_.by_key ? tiles_of(shape_.queries, arguments_.tile_queries)
                             : tiles_of(shape_.keys, arguments_.tile_keys);
  }

  /// The list's entry for a tile (see Visit), or kEmpty.
  __device__ int classify(int column) const {
    const int row = blockIdx.x, query_tile = arguments_.by_key ? column : row,
              key_tile = arguments_.by_key ? row : column;
    const int query_begin = first_query_of(arguments_, shape_, query_tile), key_begin = key_tile * arguments_.tile_keys;
    const int key_end = key_begin + arguments_.tile_keys;
    const Entries box{::max(query_begin, 0), ::min(query_begin + arguments_.tile_queries, shape_.queries),
                      ::max(key_begin, shape_.key_start), ::min(key_end, shape_.keys)};
    if (box.is_empty()) return kEmpty;
    const bool is_whole = box.key_begin == key_begin && box.key_end == key_end;
    switch (look(box)) {
      case kEmptyPart: return kEmpty;
      case kFullPart:
        if (is_whole) return Visit::full(column).entry;
        break;
      default: break;
    }
    return Visit::partial(column, parts_of(query_begin, key_begin)).entry;
  }

  /// The classes of a partial tile's parts, by interval arithmetic alone.
  __device__ int parts_of(int query_begin, int key_begin) const {
    const int queries = arguments_.part_queries, keys = arguments_.part_keys;
    const int across = tiles_of(arguments_.tile_keys, keys),
              count = tiles_of(arguments_.tile_queries, queries) * across;
    if (count > Visit::kMostParts || across * keys != arguments_.tile_keys) return Visit::kAllPartial;
    int parts = 0;
    for (int i = 0; i < count; ++i) {
      const int query = query_begin + i / across * queries, key = key_begin + i % across * keys;
      const Entries part{::max(query, 0), ::min(query + queries, shape_.queries), ::max(key, shape_.key_start),
                         ::min(key + keys, shape_.keys)};
      int found = kEmptyPart;
      if (!part.is_empty()) {
        const bounds::Truth verdict = kept(part);
        const bool is_full = verdict.low && part.key_begin == key && part.key_end == key + keys;
        if (verdict.high) found = is_full ? kFullPart : kPartialPart;
      }
      parts |= found << 2 * i;
    }
    return parts;
  }

  __device__ PartClass look(const Entries& box) const {
    const bounds::Truth verdict = kept(box);
    if (!verdict.high) return kEmptyPart;
    return verdict.low ? kFullPart : look_closer(box);
  }

  __device__ bounds::Truth kept(const Entries& box) const {
    const bounds::Ints queries = box.queries(), keys = box.keys();
    return Mask::kept(bound_, sequence_, uniform_, Mask::query_bounds(bound_, sequence_, queries),
                      Mask::key_bounds(bound_, sequence_, keys), queries, keys);
  }

  __device__ PartClass look_closer(const Entries& box) const {
    bool kept_seen = false, removed_seen = false;
    for (int i = 0; i < 20; ++i) {
      const Entries part = i < 4 ? corner(box, i) : sixteenth(box, i - 4);
      if (part.is_empty()) continue;
      const bounds::Truth verdict = kept(part);
      kept_seen |= verdict.low;
      removed_seen |= !verdict.high;
      const bool is_open = verdict.high && !verdict.low;
      if (is_open || (kept_seen && removed_seen)) return kPartialPart;
    }
    return kept_seen ? kFullPart : kEmptyPart;
  }

  __device__ static Entries corner(const Entries& box, int i) {
    const int query = i % 2 == 0 ? box.query_begin : box.query_end - 1;
    const int key = i / 2 == 0 ? box.key_begin : box.key_end - 1;
    return {query, query + 1, key, key + 1};
  }
  __device__ static Entries sixteenth(const Entries& box, int i) {
    const int queries = tiles_of(box.query_end - box.query_begin, 4), keys = tiles_of(box.key_end - box.key_begin, 4);
    const int query = box.query_begin + i % 4 * queries, key = box.key_begin + i / 4 * keys;
    return {query, ::min(query + queries, box.query_end), key, ::min(key + keys, box.key_end)};
  }

  const ClassifyArguments& arguments_;
  const typename Mask::Arguments& bound_;
  const SequenceShape shape_;
  const typename Mask::Sequence sequence_;
  const typename Mask::Uniform uniform_;
};

/// Where the walk of a row begins: where its first query meets its own position, since a causal mask keeps something of
/// all its queries there. Rows that are key tiles are walked from their first visit.
__device__ inline RowStart row_start(const ClassifyArguments& arguments, long long list, int row, int count) {
  const ListWalk walk(arguments.lists, list, count);
  const SequenceShape& shape = arguments.sequences[blockIdx.y];
  const int tile =
      arguments.by_key ? 0 : tile_of_own_position(shape, first_query_of(arguments, shape, row), arguments.tile_keys);
  const WalkStart start = WalkStart::near(walk, tile);
  return {row, start.count, start.index, start.entry};
}

/// The rows of a (sequence, head) in the order in which blocks take them: the longest list first, equal ones by number.
/// Many rows are taken from the last on, where attention that is causal has the most to do.
__device__ inline void order_rows(const ClassifyArguments& arguments, int rows) {
  constexpr int kMostSorted = 4096;
  const long long first = blockIdx.y * arguments.lists.sequence_rows + blockIdx.x * arguments.lists.head_rows;
  const int* const count = arguments.count + first;
  RowStart* const order = arguments.order + first;
  for (int row = threadIdx.x; row < rows; row += blockDim.x) {
    int place = rows - 1 - row;
    if (rows <= kMostSorted) {
      const int own = count[row];
      place = 0;
      for (int other = 0; other < rows; ++other) {
        const int length = __ldg(count + other);
        place += length > own || (length == own && other < row) ? 1 : 0;
      }
    }
    order[place] = row_start(arguments, first + row, row, count[row]);
  }
}

}  // namespace tilewise::cuda

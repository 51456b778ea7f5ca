// The key tiles that each query tile visits, as compact lists.
#pragma once

#include <cstdint>
#include <vector>

#include "tiles/classify.h"

namespace tilewise::cuda {

/// Lists for every (sequence, head, query tile), in that order; where no head differs from another, for head 0 alone.
/// Every sequence has as many rows as the longest one.
struct HostTileLists {
  std::int64_t rows = 0;         // query tiles of the longest sequence
  std::int64_t heads = 0;        // with lists of their own: h_q or 1
  std::vector<long long> first;  // [b, heads, rows], where a list begins in `tiles`
  std::vector<int> count;        // [b, heads, rows]
  std::vector<int> tiles;        // key tile * 2 + (1 where partial), ascending in each list
  std::vector<int> order;        // [b, h_q, rows], query tiles with the longest list first
};

/// Classifies on the host. Throws as Classifier::walk.
HostTileLists make_tile_lists(tiles::Classifier& classifier, const Problem& problem, TileSizes tile);

/// The query tiles that each key tile meets, for the backward pass: read "key tile" for "query tile" above and the
/// other way round. `order` is [b, h_kv, key tiles], by the first of a key head's query heads. Ends of sequences make
/// no tile partial here, since the kernel knows them.
HostTileLists make_query_lists(tiles::Classifier& classifier, const Problem& problem, TileSizes tile);

}  // namespace tilewise::cuda

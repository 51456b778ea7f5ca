// Where entries lie: from indices within a sequence to the coordinates that a variant reads.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "tilewise/problem.h"
#include "variant/graph.h"
#include "variant/interval.h"

namespace tilewise::variant {

/// The coordinates of one entry, in the order of `Coordinate`.
using Place = std::array<std::int32_t, kCoordinates>;

/// Bounds of the coordinates over a box of entries.
using IntervalPlace = std::array<Interval, kCoordinates>;

/// The coordinates of an entry. The problem is valid, 0 <= sequence < b, 0 <= head < h_q, and the indices lie inside
/// the sequence's lengths (key indices before key_start have coordinates too, though no entry is there).
Place place_of(const Problem& problem, std::int64_t sequence, std::int64_t head, std::int64_t query_index,
               std::int64_t key_index);

/// Exact bounds of the coordinates over a box that is not empty; else as place_of.
IntervalPlace place_of(const Problem& problem, std::int64_t sequence, std::int64_t head, const Box& box);

/// The box of the entries that exist: all queries, and the keys from key_start on.
Box entries_of(const Sequence& sequence);

/// The part of `box` inside `limits`; empty where they do not meet.
inline Box clipped(const Box& box, const Box& limits) {
  return {std::max(box.query_begin, limits.query_begin), std::min(box.query_end, limits.query_end),
          std::max(box.key_begin, limits.key_begin), std::min(box.key_end, limits.key_end)};
}

}  // namespace tilewise::variant

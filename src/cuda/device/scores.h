// From products q.k to scores: scale, variant, and what does not exist.
//
// A kernel's Variant has
//   Arguments                 what the call binds
//   kChangesScores            whether there are score functions; where not, a full tile's scores are the products
//   kHasSink, sink_logit(arguments, place)
//   Place                     a (sequence, head): see place_of
//   Query, Key                hoisted values: query_values(arguments, place, query_index), key_values(...)
//   full_score, partial_score (arguments, place, query, key, query_index, key_index, s); -inf removes an entry
#pragma once

#include "softmax.h"

namespace tilewise::cuda {

/// The rows and columns of a tile of scores that a lane holds.
struct LanePlace {
  int row;        // its first row in the block's tile: row block i, half h is row + 16 i + 8 h
  int query;      // the index of that row's query
  int key;        // index of its first column: column block j, element e is key + 8 j + e
  int key_begin;  // keys in [key_begin, key_end) exist
  int key_end;
};

/// What a variant's values depend on besides the key, kept in shared memory: a few are read for each tile that needs
/// them, and none takes a register meanwhile.
template <class Variant, int kQueryTile>
struct BlockValues {
  typename Variant::Place place;
  typename Variant::Query queries[kQueryTile];
};

/// Turns products into scores, and returns the factor that takes them to log2 units. `kPartial`: entries may be removed
/// or past the ends.
template <bool kPartial, class Variant, int kRowBlocks, int kKeyBlocks, int kQueryTile>
__device__ inline float apply_variant(Accumulator<kRowBlocks, kKeyBlocks>& s, float scale,
                                      const typename Variant::Arguments& arguments,
                                      const BlockValues<Variant, kQueryTile>& values, const LanePlace& lane) {
  if constexpr (!kPartial && !Variant::kChangesScores) {
    return scale * kLog2E;
  } else {
    const typename Variant::Place place = values.place;
    typename Variant::Query query[kRowBlocks][2];
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) query[i][half] = values.queries[lane.row + 16 * i + 8 * half];
    }
#pragma unroll
    for (int j = 0; j < kKeyBlocks; ++j) {
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const int key_index = lane.key + 8 * j + column;
        const auto key = Variant::key_values(arguments, place, key_index);
        const bool exists = !kPartial || (key_index >= lane.key_begin && key_index < lane.key_end);
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float& x = s.x[i][j][2 * half + column];
            const int query_index = lane.query + 16 * i + 8 * half;
            const float score = scale * x;
            if constexpr (kPartial) {
              x = exists ? Variant::partial_score(arguments, place, query[i][half], key, query_index, key_index, score)
                         : -infinity();
            } else {
              x = Variant::full_score(arguments, place, query[i][half], key, query_index, key_index, score);
            }
          }
        }
      }
    }
    return kLog2E;
  }
}

}  // namespace tilewise::cuda

// What becomes of a tile's entries between its products and its weights: masks, scores and dropout.
#pragma once

#include "philox.h"
#include "sm90/forward_kept.h"
#include "stays.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class ForwardEntries : public ForwardKept<Config, Variant> {
  using Shared = ForwardKept<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::arguments_, Shared::call_, Shared::variant_;
  using Shared::first_query, Shared::lane, Shared::lane_of, Shared::place_of, Shared::warp_row;
  using Shared::kKeyTile;
  using typename Shared::Lane;
  using typename Shared::Piece;
  using typename Shared::Scores;
  using typename Shared::TileWeights;
  using typename Shared::Told;

  static constexpr int kSteps = kKeyTile / 16;   // of a product of weights and values
  static constexpr int kEntries = kKeyTile / 2;  // of a lane, in the order of its registers

  /// Which of a lane's entries stay. With score functions the mask is evaluated where scores are.
  using Stays = cuda::Stays<kKeyTile>;

  /// The index of the lane's first query.
  __device__ int lane_query(const Piece& piece) const { return first_query(piece) + warp_row() + lane() / 4; }

  /// Asked while the products are under way.
  __device__ void look_up(Stays& stays, const Visit& visit, const Piece& piece) const {
    if constexpr (!Variant::kChangesScores && Config::kHasLists && Variant::kFollowsDiagonals) {
      const SequenceShape& shape = place_of(piece).shape;
      const auto& place = place_of(piece).variant;
      const int first_key = visit.tile() * kKeyTile, first = first_query(piece) + warp_row();
      stays = stays_along_diagonals<kKeyTile>(lane(), [&](int query, int key) {
        const int query_index = first + query, key_index = first_key + key;
        return Variant::keeps(variant_, place, Variant::query_values(variant_, place, query_index),
                              Variant::key_values(variant_, place, key_index),
                              Variant::diagonal_values(variant_, place, query_index - key_index), query_index,
                              key_index, 0);
      });
      stays.remove_outside(lane(), shape.key_start - first_key, shape.keys - first_key);
    } else if constexpr (!Variant::kChangesScores) {
      // Its place in the tile is found anew: kept from tile to tile, it would spill.
      const Lane lane = lane_of(visit, piece, 0, place_of(piece).variant, thread_read_anew());
      const SequenceShape& shape = place_of(piece).shape;
      stays = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int part = visit.part(piece.part(), half);
        constexpr int kBlocks = kKeyTile / 16;
        if (part == kFullPart) {
#pragma unroll
          for (int j = half * kBlocks; j < (half + 1) * kBlocks; ++j) stays.set(j);
        } else if (part == kPartialPart) {
          // Not all of them at once, which would spill.
#pragma unroll 1
          for (int e = 0; e < 4; ++e) {
#pragma unroll
            for (int j = half * kBlocks; j < (half + 1) * kBlocks; ++j)
              stays.set(j, e, stays_at(lane, shape, e / 2 * 8, 8 * j + e % 2));
          }
        }
      }
    }
  }

  __device__ static bool stays_at(const Lane& lane, const SequenceShape& shape, int query, int key) {
    const int key_index = lane.key_index(key);
    return (unsigned(key_index - shape.key_start) < unsigned(shape.keys - shape.key_start)) & lane.keeps(query, key);
  }

  /// Products of a tile turned into scores in log2 units, -inf for what is removed or does not exist.
  __device__ void make_exponents(Scores& s, const Stays& stays, const Visit& visit, const Piece& piece,
                                 unsigned tile) const {
    // Made for all entries: a branch for each would cost more.
    if constexpr (Variant::kChangesScores) {
      const Lane lane = lane_of(visit, piece, tile);
      const SequenceShape& shape = place_of(piece).shape;
#pragma unroll
      for (int i = 0; i < kEntries; ++i) {
        float& x = s.x[0][i / 4][i % 4];
        const int query = i / 2 % 2 * 8, key = i / 4 * 8 + i % 2;
        const bool stays_here = stays_at(lane, shape, query, key);
        const float exponent = Lane::clamped(lane.score(query, key, x)) * kLog2E;
        x = stays_here ? exponent : -infinity();
        // Eight at a time, where there are few registers: what others read stays behind it.
        if constexpr (Config::kConsumers == 3 && Config::kHeadV > 64) {
          if (i % 8 == 7) __syncwarp();
        }
      }
    } else {
      const float removed = arguments_.scale < 0 ? infinity() : -infinity();
#pragma unroll
      for (int i = 0; i < kEntries; ++i) {
        float& x = s.x[0][i / 4][i % 4];
        x = stays.keeps(i / 4, i % 4) ? x : removed;
      }
    }
  }

  /// Zeroes the weights that dropout drops. The others are scaled with the whole row in the end.
  __device__ void drop(TileWeights& weights, const Visit& visit, const Piece& piece) const {
    const Told& place = place_of(piece);
    const int head_index = place.work.sequence * call_.h_q + place.work.head;
    const unsigned keep_below = arguments_.dropout.keep_below;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned bytes = dropout_bytes(arguments_.dropout, visit.tile() * kSteps + k,
                                             lane_query(piece) + 8 * half, head_index, lane() % 4);
        unsigned* pairs = weights.fragments[k][0].pairs;
        pairs[half] &= kept_halves(bytes, keep_below);
        pairs[half + 2] &= kept_halves(bytes >> 16, keep_below);
      }
    }
  }

  /// A mask for a pair of elements, from their random bytes.
  __device__ static unsigned kept_halves(unsigned bytes, unsigned keep_below) {
    return ((bytes & 0xff) < keep_below ? 0xffffu : 0) | ((bytes >> 8 & 0xff) < keep_below ? 0xffff0000u : 0);
  }
};

}  // namespace tilewise::cuda::sm90

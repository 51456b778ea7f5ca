// Which of a tile's entries stay, as consumers of the backward kernels find out.
#pragma once

#include "sm90/backward_steady.h"
#include "stays.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class BackwardMasks : public BackwardSteady<Config, Variant> {
  using Shared = BackwardSteady<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::arguments_, Shared::kKeepsAhead, Shared::kQueries, Shared::lane, Shared::place_of, Shared::sequence;
  using Shared::variant_, Shared::warp_row;
  using typename Shared::Lane;
  using typename Shared::Sizes;
  using typename Shared::SteadyRun;

  /// A tile of queries, with the keys of a consumer.
  struct ConsumerTile {
    int head, query_begin, first_key;
    int part;              // PartClass of its entries
    int stage;             // of queries
    unsigned index;        // of d_s, and of what consumers keep of the variant
    int kept = 0;          // stage of what is kept ahead
    bool has_ends = true;  // it may reach over its sequence
    bool is_steady = false;
    SteadyRun steady = {};
  };

  /// The lane's entries of it.
  __device__ Lane lane_of(const ConsumerTile& tile, int consumer) const {
    const auto& place = place_of(consumer);
    if constexpr (kKeepsAhead) {
      const int column = 64 * consumer;
      return Lane(variant_, place.variant, this->ahead().values, tile.kept, 0, tile.kept, tile.query_begin,
                  tile.first_key - column, lane() % 4 * 2, column + warp_row() + lane() / 4);
    } else {
      return Lane(variant_, place.variant, place.values, tile.index, 0, tile.index, tile.query_begin, tile.first_key,
                  lane() % 4 * 2, warp_row() + lane() / 4);
    }
  }

  /// What a mask does to a tile's entries with 64 keys: a half of the tile's, or, in a wide kernel without pairs, all
  /// of them: `half` is either then.
  __device__ static int part_of(const Visit& visit, int half, bool has_missing_keys) {
    if (!Config::kHasLists) return has_missing_keys ? kPartialPart : kFullPart;
    const int part = visit.part(0, half);
    return Sizes::kIsWide && !Config::kIsPaired && visit.part(0, 1 - half) != part ? kPartialPart : part;
  }

  /// A mask that follows diagonals is asked along them, keys as rows: a window's backward pass takes 0.96 of what it
  /// takes with 32 questions of each lane.
  static constexpr bool kAsksDiagonals = Config::kHasLists && Variant::kFollowsDiagonals && !Variant::kChangesScores;
  /// Otherwise which of a lane's entries stay: bit 4j + e is that of [j][e].
  struct EntryBits {
    unsigned bits;

    __device__ bool keeps(int j, int e) const { return (bits >> (4 * j + e) & 1) != 0; }
  };
  template <bool kIsAlongDiagonals, class Unused = void>
  struct StaysOf {
    using Type = EntryBits;
  };
  template <class Unused>
  struct StaysOf<true, Unused> {
    using Type = Stays<kQueries>;
  };

  /// Which of a lane's entries of a tile stay. Asked while products are under way. With score functions the mask is
  /// evaluated where scores are.
  __device__ auto look_up(const ConsumerTile& tile, int consumer) const {
    typename StaysOf<kAsksDiagonals>::Type stays{};
    if constexpr (!kAsksDiagonals) {
      stays.bits = look_up_entries(tile.part, lane_of(tile, consumer));
    } else if (tile.part == kPartialPart) {
      const auto& place = place_of(consumer).variant;
      const int first_key = tile.first_key + warp_row();
      stays = stays_along_diagonals<kQueries>(lane(), [&](int key, int query) {
        const int query_index = tile.query_begin + query, key_index = first_key + key;
        return Variant::keeps(variant_, place, Variant::query_values(variant_, place, query_index),
                              Variant::key_values(variant_, place, key_index),
                              Variant::diagonal_values(variant_, place, query_index - key_index), query_index,
                              key_index, 0);
      });
      // Asked of memory for each tile that a mask cuts, this took 450 cycles.
      if (tile.has_ends) {
        const SequenceShape& shape = arguments_.sequences[sequence()];
        const int key = first_key + lane() / 4;
        if (key < shape.key_start || key >= shape.keys) stays.remove_row(0);
        if (key + 8 < shape.key_start || key + 8 >= shape.keys) stays.remove_row(1);
        stays.remove_outside(lane(), 0, shape.queries - tile.query_begin);
      }
    }
    return stays;
  }
  __device__ unsigned look_up_entries(int part, const Lane& lane) const {
    unsigned stays = part == kFullPart ? ~0u : 0;
    if constexpr (!Variant::kChangesScores) {
      if (part == kPartialPart) {
        // Not all of them at once, which would spill, but so many that they need not wait for each other.
#pragma unroll 1
        for (int e = 0; e < 2; ++e) {
          unsigned near = 0, far = 0;  // the lane's first key, and its second one
#pragma unroll
          for (int j = 0; j < kQueries / 8; ++j) {
            near |= unsigned(lane.keeps(8 * j + e, 0)) << 4 * j;
            far |= unsigned(lane.keeps(8 * j + e, 8)) << 4 * j;
          }
          stays |= (near | far << 2) << e;
        }
        stays &= look_up_ends(lane);
      }
    }
    return stays;
  }
  /// Likewise, which of them are in the sequence at all.
  __device__ unsigned look_up_ends(const Lane& lane) const {
    const SequenceShape& shape = arguments_.sequences[sequence()];
    const auto is_there = [&](int key) {
      return lane.key_index(key) >= shape.key_start && lane.key_index(key) < shape.keys;
    };
    unsigned there = (is_there(0) ? 0x33333333u : 0) | (is_there(8) ? 0xccccccccu : 0);
    const int queries = shape.queries - lane.query_index(0);  // from the lane's first one on
    if (uniform(queries >= kQueries) != 0) return there;
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      if (8 * j >= queries) there &= ~(0x5u << 4 * j);
      if (8 * j + 1 >= queries) there &= ~(0xau << 4 * j);
    }
    return there;
  }
  // No short cuts: a branch for each of 32 numbers would cost more.
  __device__ bool stays_at(const Lane& lane, int query, int key) const {
    const SequenceShape& shape = arguments_.sequences[sequence()];
    return lane.keeps(query, key) & (lane.query_index(query) < shape.queries) &
           (lane.key_index(key) >= shape.key_start) & (lane.key_index(key) < shape.keys);
  }
};

}  // namespace tilewise::cuda::sm90

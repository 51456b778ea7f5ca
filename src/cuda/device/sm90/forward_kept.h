// What a consumer of the forward kernel keeps of its variant for a tile, and the weights of tiles whose diagonals have
// one value.
#pragma once

#include "sm90/forward_output.h"
#include "sm90/steady_tiles.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class ForwardKept : public ForwardOutput<Config, Variant> {
  using Shared = ForwardOutput<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::kept, Shared::kept_full, Shared::kKeepsOfTiles, Shared::kKeptStages, Shared::kKeyTile,
      Shared::kKnowsSteady, Shared::kQueryTile;
  using Shared::place_of, Shared::variant_;
  using typename Shared::Element;
  using typename Shared::Piece;
  using typename Shared::Values;

  using Lane = LaneScores<Variant, Values, kKeyTile>;
  using Scores = Accumulator<1, kKeyTile / 8>;
  using TileWeights = Weights<Element, 1, kKeyTile / 8>;

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int warp_row() { return threadIdx.x / 32 % 4 * 16; }  // in the consumer's 64 queries

  /// What a row's largest exponents may be above its base, and below it where the base is its query's own.
  static constexpr bool kHasOffsets = Variant::kKeyFields > 0 || Variant::kDiagonalFields > 0;
  static constexpr bool kHasRoom = Variant::kChangesScores && kHasOffsets && !Variant::kMayBeSteady &&
                                   sizeof(Element) == 2 && kLargestWeight<Element> >= 0x1p20f;
  static constexpr float kRoom = kHasRoom ? 24 : 0, kDepth = 40;
  static constexpr float kLargestSum = kHasRoom ? 0x1p32f : kLargestWeight<Element>;

  /// What exponents read of the head, kept in registers that all of a warp share, for a piece: an instruction then
  /// reads one register less. Of plain, a score of twelve operations went from 0.689 to 0.702 by that, at d 64 from
  /// 0.586 to 0.620.
  static constexpr bool kKeepsUniform = kHasRoom;
  struct NoUniform {};
  struct TakeUniform {
    __device__ float operator()(float x) const { return uniform_real(x); }
  };
  __device__ auto uniform_of(const Piece& piece) const {
    if constexpr (kKeepsUniform)
      return Variant::exponent_place(place_of(piece).variant, TakeUniform());
    else
      return NoUniform();
  }

  /// Of the tile that is number `tile` of all that this consumer has seen.
  __device__ Lane lane_of(const Visit& visit, const Piece& piece, unsigned tile) const {
    return lane_of(visit, piece, tile, place_of(piece).variant);
  }
  __device__ Lane lane_of(const Visit& visit, const Piece& piece, unsigned tile, NoUniform) const {
    return lane_of(visit, piece, tile);
  }
  __device__ Lane lane_of(const Visit& visit, const Piece& piece, unsigned tile, const typename Variant::Place& place,
                          unsigned thread = thread_of_lane()) const {
    const int stage = int(tile % kKeptStages);
    return Lane(variant_, place, kept(), piece.parity(), stage, stage, tile_query(piece), visit.tile() * kKeyTile,
                64 * piece.part() + int(thread / 32 % 4 * 16) + int(thread % 32 / 4), int(thread % 4 * 2));
  }
  /// A lane's places among diagonals would spill where three consumers have 128 columns each.
  __device__ static unsigned thread_of_lane() {
    return kHasRoom && Config::kConsumers == 3 && Config::kHeadV > 64 ? thread_read_anew() : threadIdx.x;
  }
  __device__ int tile_query(const Piece& piece) const { return Shared::first_query_of(place_of(piece)); }

  __device__ void wait_for_kept(unsigned tile) const {
    const Turn<kKeptStages> turn{tile};
    if constexpr (kKeepsOfTiles) kept_full(turn.stage()).wait(turn.parity());
  }
  /// Steady tiles with the same value that are still to come.
  struct SteadyRun {
    float value = 0;
    int left = 0;
  };
  /// Waits for what is kept of a tile; who makes it relies on that, of steady tiles, too. Whether it is steady.
  __device__ bool take_steady(SteadyRun& run, unsigned tile) const {
    wait_for_kept(tile);
    if constexpr (kKnowsSteady) {
      return take_of_run(run, [&] {
        const SteadyTile& steady = kept().steady_tile(tile);
        return SteadyRun{steady.value, uniform(steady.run)};
      });
    }
    return false;
  }

  /// What a steady tile does without, where it is asked for after all. Each warp makes what it needs: where they make
  /// the same, they write the same.
  __device__ void complete_tile(const Visit& visit, const Piece& piece, unsigned tile) const {
    if constexpr (kKnowsSteady) {
      if (__all_sync(~0u, kept().steady_tile(tile).run == 0)) return;
      kept().template make_diagonals_of_warp<16 + kKeyTile - 1>(
          variant_, place_of(piece).variant, int(tile % kKeptStages), tile_query(piece), visit.tile() * kKeyTile,
          64 * piece.part() + warp_row(), thread_read_anew() % 32);
    }
  }

  /// A steady tile's exponents, less their rows' bases: factor * value + begin[half].
  struct SteadyExponents {
    float factor, begin[2];
  };
  __device__ SteadyExponents steady_exponents(const Lane& lane, float value, const RowStatistics<1>& rows) const {
    SteadyExponents exponents{1, {0, 0}};
    if constexpr (kKnowsSteady) {
      exponents.factor = uniform_real(Variant::factor(variant_, lane.place));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        exponents.begin[half] = lane.of_query(8 * half) + value - rows.base[0][half];
      }
    }
    return exponents;
  }

  /// What an exponent has of its query alone needs no operation of an entry where it is the row's base. Makes it the
  /// base of all rows of the warp, if it is close to all their largest exponents. Whether it is.
  __device__ bool take_own_bases(const Lane& lane, RowStatistics<1>& rows) const {
    if constexpr (!kHasRoom) return false;
    const float above[2] = {rows.base[0][0] - lane.of_query(0), rows.base[0][1] - lane.of_query(8)};
    bool are_close = true;
#pragma unroll
    for (int half = 0; half < 2; ++half) are_close = are_close && above[half] <= kRoom && above[half] >= -kDepth;
    if (!__all_sync(~0u, are_close)) return false;
    rows.base[0][0] = lane.of_query(0), rows.base[0][1] = lane.of_query(8);
    return true;
  }
  __device__ bool has_own_bases(const Lane& lane, const RowStatistics<1>& rows) const {
    return kHasRoom && __all_sync(~0u, rows.base[0][0] == lane.of_query(0) && rows.base[0][1] == lane.of_query(8)) != 0;
  }

  /// Of long scores so many entries at a time: the assembler would begin with so many that it spills. Beside queries in
  /// registers that is at eight; a warp then waits for its own instructions, 1071 cycles for the entries of 128 keys,
  /// where 32 at a time take 703 (a drawn score of ten operations, by its machine code).
  static constexpr bool kIsBounded = Variant::kIsLong && (Config::kConsumers == 2 || Config::kHeadV <= 64);
  static constexpr int kAtOnce = Config::kQueryInRegisters || Variant::kHasFunctions ? 8 : 32;
  /// A full tile's weights. kOwn: rows' bases are their queries' own.
  template <bool kOwn>
  __device__ void make_scored(TileWeights& weights, const Scores& s, const Lane& lane,
                              const RowStatistics<1>& rows) const {
    weights.template make_of<Config::kPolynomials>(
        [&](int, int j, int e, float base) {
          if (kIsBounded && e == 0 && j % (kAtOnce / 4) == 0) __syncwarp();
          const int query = e / 2 * 8, key = 8 * j + e % 2;
          return kOwn ? lane.own_exponent(query, key, s.x[0][j][e]) : lane.exponent(query, key, s.x[0][j][e], base);
        },
        rows);
  }

  /// Whether the warp's products are small, and then their weights.
  template <bool kOwn>
  __device__ bool make_small(TileWeights& weights, const Scores& s, const Lane& lane,
                             const RowStatistics<1>& rows) const {
    if constexpr (Variant::kMayBeSmall) {
      int largest = 0;  // a square's bits: as ints they are in the order of their values
      weights.template make_of<0>(
          [&](int, int j, int e, float base) {
            const float product = s.x[0][j][e];
            largest = ::max(largest, __float_as_int(product * product));
            const int query = e / 2 * 8, key = 8 * j + e % 2;
            return kOwn ? lane.own_small_exponent(query, key, product) : lane.small_exponent(query, key, product, base);
          },
          rows);
      return __all_sync(~0u, __int_as_float(largest) <= Variant::square_limit(variant_, lane.place));
    }
    return false;
  }

  __device__ void make_steady(TileWeights& weights, const Scores& s, const SteadyExponents& steady, const Visit& visit,
                              const Piece& piece, const RowStatistics<1>& rows) const {
    if constexpr (kKnowsSteady) {
      const Lane lane = lane_of(visit, piece, 0);
      weights.template make_of<Config::kPolynomials>(
          [&](int, int j, int e, float) {
            const float value = Variant::value(variant_, lane.place, lane.query_at(e / 2 * 8), s.x[0][j][e]);
            return fmaf(value, steady.factor, steady.begin[e / 2]);
          },
          rows);
    }
  }
};

}  // namespace tilewise::cuda::sm90

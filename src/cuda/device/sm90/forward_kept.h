// What a consumer of the forward kernel keeps of its variant for a tile, and the weights of tiles whose diagonals have
// one value.
#pragma once

#include "sm90/forward_output.h"

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

  /// Of the tile that is number `tile` of all that this consumer has seen.
  __device__ Lane lane_of(const Visit& visit, const Piece& piece, unsigned tile) const {
    const int stage = int(tile % kKeptStages);
    return Lane(variant_, place_of(piece).variant, kept(), piece.parity(), stage, stage, tile_query(piece),
                visit.tile() * kKeyTile, 64 * piece.consumer + warp_row() + lane() / 4, lane() % 4 * 2);
  }
  __device__ int tile_query(const Piece& piece) const { return place_of(piece).work.query_tile * kQueryTile; }

  __device__ void wait_for_kept(unsigned tile) const {
    const Turn<kKeptStages> turn{tile};
    if constexpr (kKeepsOfTiles) kept_full(turn.stage()).wait(turn.parity());
  }
  /// The same for all of a warp, which the compiler sees.
  __device__ bool is_steady(unsigned tile) const {
    if constexpr (kKnowsSteady) return __any_sync(~0u, kept().steady_tile(tile).is_steady != 0);
    return false;
  }

  /// What a steady tile does without, where it is asked for after all. Each warp makes what it needs: where they make
  /// the same, they write the same.
  __device__ void complete_tile(const Visit& visit, const Piece& piece, unsigned tile) const {
    if constexpr (kKnowsSteady) {
      if (!is_steady(tile)) return;
      kept().template make_diagonals_of_warp<16 + kKeyTile - 1>(
          variant_, place_of(piece).variant, int(tile % kKeptStages), tile_query(piece), visit.tile() * kKeyTile,
          64 * piece.consumer + warp_row(), thread_read_anew() % 32);
    }
  }

  /// A steady tile's exponents, less their rows' bases: factor * value + begin[half].
  struct SteadyExponents {
    float factor, begin[2];
  };
  __device__ SteadyExponents steady_exponents(const Lane& lane, unsigned tile, const Piece& piece,
                                              const RowStatistics<1>& rows) const {
    SteadyExponents exponents{1, {0, 0}};
    if constexpr (kKnowsSteady) {
      const float value = kept().steady_tile(tile).value;
      exponents.factor = uniform_real(Variant::factor(variant_, place_of(piece).variant));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        exponents.begin[half] =
            Variant::of_query(variant_, place_of(piece).variant, lane.query_at(8 * half)) + value - rows.base[0][half];
      }
    }
    return exponents;
  }

  /// Whether the warp's products are small, and then their weights.
  __device__ bool make_small(TileWeights& weights, const Scores& s, const Lane& lane,
                             const RowStatistics<1>& rows) const {
    if constexpr (Variant::kMayBeSmall) {
      int largest = 0;  // a square's bits: as ints they are in the order of their values
      weights.template make_of<0>(
          [&](int, int j, int e, float base) {
            const float product = s.x[0][j][e];
            largest = ::max(largest, __float_as_int(product * product));
            return lane.small_exponent(e / 2 * 8, 8 * j + e % 2, product) - base;
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

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
  using Shared::first_query, Shared::is_first_lane, Shared::place_of, Shared::variant_;
  using Shared::kept_full, Shared::kept_of, Shared::kKeepsOfTiles, Shared::kKeptStages, Shared::kKeyTile;
  using typename Shared::Element;
  using typename Shared::Piece;
  using typename Shared::Values;

  using Lane = LaneScores<Variant, Values, kKeyTile>;
  using Scores = Accumulator<1, kKeyTile / 8>;
  using TileWeights = Weights<Element, 1, kKeyTile / 8>;

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int warp_row() { return threadIdx.x / 32 % 4 * 16; }  // in the consumer's 64 queries

  __device__ Lane lane_of(const Visit& visit, const Piece& piece, unsigned kept_stage) const {
    const int stage = int(kept_stage);
    return Lane(variant_, place_of(piece).variant, kept_of(piece.consumer), piece.parity(), stage, stage,
                first_query(piece), visit.tile() * kKeyTile, warp_row() + lane() / 4, lane() % 4 * 2);
  }

  /// What the variant keeps for the tile of a walk's visit.
  template <class Walk>
  __device__ void prepare_tile(const Walk& walk, int index, const Piece& piece, Turn<kKeptStages> turn) const {
    if constexpr (kKeepsOfTiles) {
      const int first_key = walk.visit(index).tile() * kKeyTile;
      const typename Variant::Place& place = place_of(piece).variant;
      Values& kept = kept_of(piece.consumer);
      if constexpr (Values::kKnowsSteady) {
        if (index % Values::kAhead == 0) {
          const int ahead = thread_read_anew() % 32;
          const Visit visit = walk.visit(::min(index + ahead, walk.count() - 1));
          kept.look_ahead(variant_, place, index, first_query(piece), visit.tile() * kKeyTile, ahead);
        }
      }
      kept.make_keys(variant_, place, turn.stage(), first_key);
      if (!kept.is_steady(index)) kept.make_diagonals(variant_, place, turn.stage(), first_query(piece), first_key);
      __syncwarp();
      kept_full(piece.consumer, turn.stage()).arrive_if(is_first_lane());
    }
  }
  __device__ void wait_for_tile(const Piece& piece, Turn<kKeptStages> turn) const {
    if constexpr (kKeepsOfTiles) kept_full(piece.consumer, turn.stage()).wait(turn.parity());
  }

  /// What a steady tile does without, where it is asked for after all.
  __device__ void complete_tile(const Visit& visit, unsigned index, const Piece& piece, unsigned kept_stage) const {
    if constexpr (Values::kKnowsSteady) {
      Values& kept = kept_of(piece.consumer);
      if (!kept.is_steady(int(index))) return;
      kept.template make_diagonals_of_warp<16 + kKeyTile - 1>(variant_, place_of(piece).variant, int(kept_stage),
                                                              first_query(piece), visit.tile() * kKeyTile, warp_row(),
                                                              thread_read_anew() % 32);
    }
  }

  /// A steady tile's exponents, less their rows' bases: factor * value + begin[half].
  struct SteadyExponents {
    float factor, begin[2];
  };
  __device__ SteadyExponents steady_exponents(const Lane& lane, int index, const Piece& piece,
                                              const RowStatistics<1>& rows) const {
    SteadyExponents exponents{1, {0, 0}};
    if constexpr (Values::kKnowsSteady) {
      const float value = kept_of(piece.consumer).steady_value(index);
      exponents.factor = uniform_real(Variant::factor(variant_, place_of(piece).variant));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        exponents.begin[half] =
            Variant::of_query(variant_, place_of(piece).variant, lane.query_at(8 * half)) + value - rows.base[0][half];
      }
    }
    return exponents;
  }

  __device__ void make_steady(TileWeights& weights, const Scores& s, const SteadyExponents& steady, const Visit& visit,
                              const Piece& piece, const RowStatistics<1>& rows) const {
    if constexpr (Values::kKnowsSteady) {
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

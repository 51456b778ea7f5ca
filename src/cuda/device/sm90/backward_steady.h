// What consumers of the backward kernels know of steady tiles, whose diagonals have one value.
#pragma once

#include "sm90/backward_output.h"
#include "sm90/steady_tiles.h"
#include "softmax.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class BackwardSteady : public BackwardOutput<Config, Variant> {
  using Shared = BackwardOutput<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::arguments_, Shared::kKnowsSteady, Shared::kQueries, Shared::kSteadyAhead;
  using Shared::place_of, Shared::thread, Shared::variant_;
  using typename Shared::Place;
  using typename Shared::Scores;

  /// Steady tiles, as many as there are still: their weights are 2^(factor * s), where products s begin at
  /// begin - inverse * reference.
  struct SteadyRun {
    float factor, inverse, begin;
    int left = 0;
  };

  /// Whether tiles from number `index` of a walk on are steady: each thread asks about one.
  template <class Walk>
  __device__ void look_ahead(const Walk& walk, int index, int count, int head, int first_key, int consumer) const {
    if constexpr (kKnowsSteady) {
      if (index % kSteadyAhead != 0) return;
      Place& place = place_of(consumer);
      const int number = index + thread(), last = count - 1, tile = this->visit(walk, ::min(number, last)).tile();
      const int least = tile * kQueries - (first_key + 63), most = least + kQueries + 62;
      const float factor = this->factor_of(place.variant), inverse = 1 / factor;
      const auto found = Variant::steady_value(variant_, place.variant, least, most);
      const bool is_steady = found.is_known && !has_low_references(head, tile);
      const SteadyTile steady = steady_tile_of(found.value * inverse, is_steady, number < last);
      meet(1 + consumer, 128);  // all have read what was found before
      place.steady.factor = factor;
      place.steady.inverse = inverse;
      place.steady.tiles[thread()] = steady;
      meet(1 + consumer, 128);
    }
  }
  /// Whether the tile that is number `index` of a walk is steady, if it is full.
  __device__ bool take_steady(SteadyRun& run, int index, int consumer) const {
    if constexpr (kKnowsSteady) {
      return take_of_run(run, [&] {
        const auto& steady = place_of(consumer).steady;
        const SteadyTile tile = steady.tiles[index % kSteadyAhead];
        return SteadyRun{uniform_real(steady.factor), uniform_real(steady.inverse), uniform_real(tile.value),
                         uniform(tile.run)};
      });
    }
    return false;
  }
  /// As has_low_rows, of a tile whose references are not there yet.
  __device__ bool has_low_references(int head, int tile) const {
    const auto* const references =
        reinterpret_cast<const float4*>(arguments_.reference + this->workspace_tile(head, tile) * kQueries);
    float lowest = 0;
#pragma unroll
    for (int i = 0; i < kQueries / 4; ++i) {
      const float4 four = references[i];
      lowest = fminf(lowest, fminf(fminf(four.x, four.y), fminf(four.z, four.w)));
    }
    return lowest < kLeastFreeBase;
  }

  __device__ static void make_steady_weights(Scores& p, float factor) {
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) p.x[0][j][e] = exp2_of(factor * p.x[0][j][e]);
    }
  }
};

}  // namespace tilewise::cuda::sm90

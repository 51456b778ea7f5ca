// What the backward pass makes of a tile's products, entry by entry.
#pragma once

#include "philox.h"
#include "products.h"
#include "scores.h"
#include "softmax.h"
#include "tile_gradients.h"

namespace tilewise::cuda {

/// A tile of scores [keys, queries] that warps share as Grid, from a key on, of one (sequence, head).
///
/// Config has kQueries, kHasDropout and kHasGradients as for Backward.
template <class Config, class Variant, class Grid>
struct ScoreGradients {
  const BackwardArguments& arguments;
  const typename Variant::Arguments& variant;
  const SequenceShape& shape;
  const typename Variant::Place& of_head;
  int sequence, key_begin;

  /// From products q k^T and d_o v^T of the tile that begins at a query to the weights that d_v takes, and the
  /// gradients of the products. `numbers` is where references and deltas of the tile's queries lie in shared memory.
  template <bool kPartial>
  __device__ void make(typename Grid::Sums& s, typename Grid::Sums& d, int query_begin, int head,
                       unsigned numbers) const {
    const typename Variant::Place place = of_head;
    const int first_key = key_begin + Grid::row(warp()) + lane() / 4;
    const int first_column = Grid::column(warp()) + lane() % 4 * 2;  // in the tile
    constexpr bool kScores = kPartial || Variant::kChangesScores;
    Gradients gradients(arguments.gradients, variant, place);
#pragma unroll
    for (int j = 0; j < 2 * Grid::kColumns; ++j) {
      const float2 references = numbers_at(numbers, first_column + 8 * j);
      const float2 deltas = numbers_at(numbers + Config::kQueries * 4, first_column + 8 * j);
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const int query = query_begin + first_column + 8 * j + column;
        const float reference = column == 0 ? references.x : references.y, delta = column == 0 ? deltas.x : deltas.y;
        const auto query_values = Variant::query_values(variant, place, query);
#pragma unroll
        for (int i = 0; i < Grid::kRows; ++i) {
          unsigned kept = 3;  // bit `half`: dropout keeps the weight
          if constexpr (Config::kHasDropout) kept = draw(key_begin + Grid::row(warp()) + 16 * i, query, head);
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int key = first_key + 16 * i + 8 * half;
            float &weight = s.x[i][j][2 * half + column], &gradient = d.x[i][j][2 * half + column];
            const float score = arguments.scale * weight;
            float x = score, slope = 1;
            if constexpr (kScores) {
              const auto scored = Variant::sloped_score(variant, place, query_values,
                                                        Variant::key_values(variant, place, key), query, key, score);
              const bool exists = !kPartial || (query < shape.queries && key >= shape.key_start && key < shape.keys);
              x = exists ? scored.score : -infinity();
              slope = scored.slope;
            }
            const float p = exp2_of(fmaf(x, kLog2E, -reference));
            float d_p = gradient;
            weight = p;
            if constexpr (Config::kHasDropout) {
              d_p = kept >> half & 1 ? d_p * arguments.dropout.scale : 0;
              weight = kept >> half & 1 ? p : 0;
            }
            const float d_score = p * (d_p - delta);
            if constexpr (Config::kHasGradients) {
              if (p != 0) {
                gradients.enter(2 * i + half, j, column);
                Variant::add_gradients(variant, place, query_values, Variant::key_values(variant, place, key), query,
                                       key, score, d_score, gradients);
              }
            }
            gradient = p == 0 ? 0 : Variant::kChangesScores ? d_score * slope : d_score;  // whatever else is NaN there
          }
        }
      }
    }
    if constexpr (Config::kHasGradients)
      gradients.flush(query_begin + Grid::column(warp()), key_begin + Grid::row(warp()));
  }

 private:
  template <bool kAny, class AnyVariant>
  struct GradientsOf {
    using Type = NoGradients;
  };
  template <class AnyVariant>
  struct GradientsOf<true, AnyVariant> {
    using Type = TileGradients<Config, AnyVariant, Grid>;
  };
  using Gradients = typename GradientsOf<Config::kHasGradients, Variant>::Type;

  /// Two numbers of a tile's rows.
  __device__ static float2 numbers_at(unsigned numbers, int row) {
    float2 value;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(numbers + row * 4) : "memory");
    return value;
  }

  /// Which weights dropout keeps of a lane's keys g and g + 8 in a block of 16.
  __device__ unsigned draw(int first_key, int query, int head) const {
    const DropoutArguments& dropout = arguments.dropout;
    const int head_index = sequence * arguments.h_q + head, g = lane() / 4;
    const uint4 words = dropout_words(dropout, first_key / 16, query, head_index);
    const unsigned near = (g < 4 ? words.x : words.y) >> 8 * (g % 4) & 0xff;
    const unsigned far = (g < 4 ? words.z : words.w) >> 8 * (g % 4) & 0xff;
    return (near < dropout.keep_below ? 1u : 0u) | (far < dropout.keep_below ? 2u : 0u);
  }

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int warp() { return threadIdx.x / 32; }
};

}  // namespace tilewise::cuda

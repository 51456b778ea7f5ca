// What the backward pass makes of a tile's products, entry by entry.
#pragma once

#include "lane_scores.h"
#include "philox.h"
#include "products.h"
#include "softmax.h"
#include "stays.h"
#include "tile_gradients.h"

namespace tilewise::cuda {

/// What a variant's values depend on besides the entry, of one (sequence, head), in shared memory: for a tile of keys
/// against one of queries after the other.
///
/// As the text was recorded: each entry makes its own.
template <class Config, class Variant, bool kIsRearranged = Variant::kIsRearranged>
class HeadValues {
 public:
  using Arguments = typename Variant::Arguments;
  using Place = typename Variant::Place;

  /// For the keys and the first tile's queries from these on. By all threads, which then must meet.
  __device__ void prepare(const Arguments&, const Place& of_head, const Place&, int, int) {
    if (threadIdx.x == 0) place_ = of_head;
  }
  /// For the tile of a number; before any warp makes its scores, the threads must meet.
  __device__ void prepare_tile(const Arguments&, int, int, int) {}

  __device__ const Place& place() const { return place_; }
  __device__ const Place& recorded() const { return place_; }

 private:
  Place place_;
};

/// By a rearranged text: what entries share is made once for a tile.
template <class Config, class Variant>
class HeadValues<Config, Variant, true> {
 public:
  using Arguments = typename Variant::Arguments;
  using Place = typename Variant::Place;
  using RecordedPlace = typename Variant::Recorded::Place;
  /// A mask alone that follows diagonals is asked with values that each asker makes.
  static constexpr int kQueryStages = Variant::kChangesScores || !Variant::kFollowsDiagonals ? 2 : 0;
  using Values = KeptValues<Variant, Config::kQueries, Config::kKeys, kQueryStages, 1, 2, 32 * Config::kWarps>;

  __device__ void prepare(const Arguments& arguments, const Place& of_head, const RecordedPlace& recorded,
                          int first_query, int first_key) {
    if (threadIdx.x == 0) place_ = of_head, recorded_ = recorded;
    values_.make_keys(arguments, of_head, 0, first_key);
    values_.make_queries(arguments, of_head, 0, first_query);
    values_.make_diagonals(arguments, of_head, 0, first_query, first_key);
  }
  __device__ void prepare_tile(const Arguments& arguments, int first_query, int first_key, int number) {
    values_.make_queries(arguments, place_, number % 2, first_query);
    values_.make_diagonals(arguments, place_, number % 2, first_query, first_key);
  }

  __device__ const Place& place() const { return place_; }
  __device__ const RecordedPlace& recorded() const { return recorded_; }
  __device__ const Values& values() const { return values_; }

 private:
  Place place_;
  RecordedPlace recorded_;
  Values values_;
};

/// The weight of an entry before it is divided by its row's sum, 2^(score - reference) in log2 units, and the slope of
/// its score.
struct Weighed {
  float weight, slope;
};

/// A tile's entries by the text as it was recorded.
template <class Variant, class Head, int kKeys, bool kIsRearranged = Variant::kIsRearranged>
struct EntryScores {
  const typename Variant::Arguments& arguments;
  const typename Variant::Place place;
  const SequenceShape& shape;
  float scale;
  int first_query, first_key;  // of the lane

  __device__ EntryScores(const Head& head, const typename Variant::Arguments& bound, const SequenceShape& of_sequence,
                         float factor, int, int tile_query, int tile_key, int column, int row)
      : arguments(bound),
        place(head.place()),
        shape(of_sequence),
        scale(factor),
        first_query(tile_query + column),
        first_key(tile_key + row) {}

  template <bool kPartial>
  __device__ Weighed weigh(int from_query, int from_key, float product, float reference) const {
    float x = scale * product, slope = 1;
    if constexpr (kPartial || Variant::kChangesScores) {
      const int query = first_query + from_query, key = first_key + from_key;
      const auto scored =
          Variant::sloped_score(arguments, place, Variant::query_values(arguments, place, query),
                                Variant::key_values(arguments, place, key), query, key, scale * product);
      const bool exists = !kPartial || (query < shape.queries && key >= shape.key_start && key < shape.keys);
      x = exists ? scored.score : -infinity();
      slope = scored.slope;
    }
    return {exp2_of(fmaf(x, kLog2E, -reference)), slope};
  }
};

/// By a rearranged text. Where `kPartial` is false scores are not clamped: no reference may be below kLeastFreeBase.
template <class Variant, class Head, int kKeys>
struct EntryScores<Variant, Head, kKeys, true> {
  using Lane = LaneScores<Variant, typename Head::Values, kKeys>;
  const Lane lane;
  const SequenceShape& shape;
  float factor;

  __device__ EntryScores(const Head& head, const typename Variant::Arguments& bound, const SequenceShape& of_sequence,
                         float scale, int number, int tile_query, int tile_key, int column, int row)
      : lane(bound, head.place(), head.values(), number % 2, 0, number % 2, tile_query, tile_key, column, row),
        shape(of_sequence),
        factor(scale * kLog2E) {}

  template <bool kPartial>
  __device__ Weighed weigh(int query, int key, float product, float reference) const {
    Weighed made{0, 1};
    if constexpr (!Variant::kChangesScores) {
      made.weight = exp2_of(fmaf(product, factor, -reference));
    } else if constexpr (kPartial) {
      const float score = lane.score(query, key, product);
      made.weight = exp2_of(fmaf(Lane::clamped(score), kLog2E, -reference));
      made.slope = score < Lane::kFloor ? 0 : lane.slope(query, key, product);
    } else {
      made.weight = exp2_of(lane.exponent(query, key, product, reference));
      made.slope = lane.slope(query, key, product);
    }
    if constexpr (kPartial) {
      // No short cuts: a branch for each would cost more.
      const bool stays = lane.keeps(query, key) & (lane.query_index(query) < shape.queries) &
                         (lane.key_index(key) >= shape.key_start) & (lane.key_index(key) < shape.keys);
      made.weight = stays ? made.weight : 0;
    }
    return made;
  }
};

/// A tile of scores [keys, queries] that warps share as Grid, from a key on, of one (sequence, head).
///
/// Config has kQueries, kKeys, kWarps, kHasDropout and kHasGradients as for Backward.
template <class Config, class Variant, class Grid>
struct ScoreGradients {
  using Recorded = typename Variant::Recorded;

  const BackwardArguments& arguments;
  const typename Variant::Arguments& variant;
  const SequenceShape& shape;
  const HeadValues<Config, Variant>& of_head;
  int sequence, key_begin;

  /// From products q k^T and d_o v^T of the tile of a number, which begins at a query, to the weights that d_v takes,
  /// and the gradients of the products. `numbers` is where references and deltas of the tile's queries lie in shared
  /// memory.
  template <bool kPartial>
  __device__ void make(typename Grid::Sums& s, typename Grid::Sums& d, int number, int query_begin, int head,
                       unsigned numbers) const {
    const int first_row = Grid::row(warp()) + lane() / 4;            // in the tile
    const int first_column = Grid::column(warp()) + lane() % 4 * 2;  // likewise
    const EntryScores<Variant, HeadValues<Config, Variant>, Config::kKeys> entries(
        of_head, variant, shape, arguments.scale, number, query_begin, key_begin, first_column, first_row);
    Gradients gradients(arguments.gradients, recorded(), of_head.recorded());
    constexpr bool kLooksUp = kPartial && looks_up();
    RowStays stays[Grid::kRows];
    if constexpr (kLooksUp) look_up(stays, entries, query_begin + Grid::column(warp()), key_begin + Grid::row(warp()));
#pragma unroll
    for (int j = 0; j < 2 * Grid::kColumns; ++j) {
      const float2 references = numbers_at(numbers, first_column + 8 * j);
      const float2 deltas = numbers_at(numbers + Config::kQueries * 4, first_column + 8 * j);
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const int query = query_begin + first_column + 8 * j + column;
        const float reference = column == 0 ? references.x : references.y, delta = column == 0 ? deltas.x : deltas.y;
#pragma unroll
        for (int i = 0; i < Grid::kRows; ++i) {
          unsigned kept = 3;  // bit `half`: dropout keeps the weight
          if constexpr (Config::kHasDropout) kept = draw(key_begin + Grid::row(warp()) + 16 * i, query, head);
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float &weight = s.x[i][j][2 * half + column], &gradient = d.x[i][j][2 * half + column];
            const float product = weight;
            auto [p, slope] = entries.template weigh < kPartial &&
                              !kLooksUp > (8 * j + column, 16 * i + 8 * half, product, reference);
            if constexpr (kLooksUp) p = stays[i].keeps(j, 2 * half + column) ? p : 0;
            float d_p = gradient;
            weight = p;
            if constexpr (Config::kHasDropout) {
              d_p = kept >> half & 1 ? d_p * arguments.dropout.scale : 0;
              weight = kept >> half & 1 ? p : 0;
            }
            const float d_score = p == 0 ? 0 : p * (d_p - delta);  // whatever else is NaN there
            if constexpr (Config::kHasGradients) {
              gradients.enter(2 * i + half, j, column);
              add_gradients<kPartial>(gradients, query, key_begin + first_row + 16 * i + 8 * half, product, d_score);
            }
            gradient = d_score;
            if constexpr (Variant::kChangesScores) gradient = p == 0 ? 0 : d_score * slope;
          }
        }
      }
    }
    if constexpr (Config::kHasGradients)
      gradients.flush(query_begin + Grid::column(warp()), key_begin + Grid::row(warp()));
  }

 private:
  /// Which entries of 16 keys stay: as of 16 queries by keys, with the two in each other's place.
  using RowStays = Stays<16 * Grid::kColumns>;
  using Entries = EntryScores<Variant, HeadValues<Config, Variant>, Config::kKeys>;
  /// Whether what stays is asked for first, as bits: of masks alone.
  __device__ static constexpr bool looks_up() {
    return Config::kHasLists && Variant::kIsRearranged && !Variant::kChangesScores;
  }
  /// For the warp's piece, which begins at a query and a key: once for each diagonal of a mask that follows them. Of
  /// others for each entry, not all in one text, which spills.
  __device__ void look_up(RowStays (&stays)[Grid::kRows], const Entries& entries, int first_query,
                          int first_key) const {
#pragma unroll
    for (int i = 0; i < Grid::kRows; ++i) {
      if constexpr (Variant::kFollowsDiagonals) {
        const auto& place = of_head.place();
        stays[i] = stays_along_diagonals<16 * Grid::kColumns>(lane(), [&](int row, int column) {
          const int query = first_query + column, key = first_key + 16 * i + row;
          return Variant::keeps(variant, place, Variant::query_values(variant, place, query),
                                Variant::key_values(variant, place, key),
                                Variant::diagonal_values(variant, place, query - key), query, key, 0);
        });
      } else {
        stays[i] = {{0, 0}};
#pragma unroll 1
        for (int e = 0; e < 4; ++e) {
#pragma unroll
          for (int j = 0; j < 2 * Grid::kColumns; ++j)
            stays[i].set(j, e, entries.lane.keeps(8 * j + e % 2, 16 * i + e / 2 * 8));
        }
      }
      stays[i].remove_outside(lane(), 0, shape.queries - first_query);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int key = first_key + 16 * i + 8 * half + lane() / 4;
        if (key < shape.key_start || key >= shape.keys) stays[i].remove_row(half);
      }
    }
  }

  template <bool kAny, class AnyVariant>
  struct GradientsOf {
    using Type = NoGradients;
  };
  template <class AnyVariant>
  struct GradientsOf<true, AnyVariant> {
    using Type = TileGradients<Config, AnyVariant, Grid>;
  };
  using Gradients = typename GradientsOf<Config::kHasGradients, Recorded>::Type;

  /// The same bytes as the recorded text names them.
  __device__ const typename Recorded::Arguments& recorded() const {
    return reinterpret_cast<const typename Recorded::Arguments&>(variant);
  }

  /// What an entry gives to tables and parameters. A score of a rearranged text can only be clamped in a partial tile.
  template <bool kPartial>
  __device__ void add_gradients(Gradients& gradients, int query, int key, float product, float d_score) const {
    const typename Recorded::Place& place = of_head.recorded();
    Recorded::template add_gradients<kPartial || !Variant::kIsRearranged>(
        recorded(), place, Recorded::query_values(recorded(), place, query),
        Recorded::key_values(recorded(), place, key), query, key, arguments.scale * product, d_score, gradients);
  }

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

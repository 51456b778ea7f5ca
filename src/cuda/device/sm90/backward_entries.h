// What consumers of the backward kernels do with a tile's entries.
#pragma once

#include "philox.h"
#include "sm90/backward_masks.h"
#include "softmax.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class BackwardEntries : public BackwardMasks<Config, Variant> {
  using Shared = BackwardMasks<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::arguments_, Shared::call_, Shared::variant_;
  using Shared::gradient_tile, Shared::numbers, Shared::place_of, Shared::query_tile;
  using Shared::kAsksDiagonals, Shared::lane_of, Shared::look_up, Shared::stays_at;
  using Shared::kHasGradients, Shared::kKeepsAhead, Shared::kKeys, Shared::kKnowsSteady, Shared::kQueries;
  using Shared::kv_head, Shared::lane, Shared::make_steady_weights, Shared::sequence, Shared::thread, Shared::warp_row;
  using typename Shared::ConsumerTile;
  using typename Shared::EntryNumbers;
  using typename Shared::Lane;
  using typename Shared::Place;
  using typename Shared::Scores;
  using typename Shared::SteadyRun;
  using typename Shared::Values;
  using Recorded = typename Variant::Recorded;

  __device__ void prepare(int consumer, int head, int first_key) const {
    meet(1 + consumer, 128);  // all are done with the head before
    Place& place = place_of(consumer);
    if (thread() == 0) {
      place.variant =
          Variant::place_of(variant_, arguments_.sequences[sequence()], sequence(), head, kv_head(), arguments_.scale);
    }
    if constexpr (kHasGradients) {
      place.gradients.begin_head(Recorded::place_of(recorded(), arguments_.sequences[sequence()], sequence(), head,
                                                    kv_head(), arguments_.scale),
                                 thread());
    }
    meet(1 + consumer, 128);
    if constexpr (Values::kKeepsKeys && kKeepsAhead) {
      auto& keys = this->ahead().values.keys[0];
      const int key = thread_read_anew() % 128;
      if (key < 64) keys.set(64 * consumer + key, Variant::key_values(variant_, place.variant, first_key + key));
      meet(1 + consumer, 128);
    } else if constexpr (Values::kKeepsKeys) {
      place.values.make_keys(variant_, place.variant, 0, first_key,
                             Shared::kReadsThread ? thread_read_anew() % 128 : thread());
      meet(1 + consumer, 128);
    }
  }

  /// What a tile needs to know besides: made while products are under way.
  static constexpr bool kMakesOfTiles = !kKeepsAhead && (Values::kKeepsQueries || Values::kKeepsDiagonals);
  __device__ void prepare_tile(int consumer, int index, int query_begin, int first_key) const {
    if constexpr (kMakesOfTiles || kHasGradients) {
      Place& place = place_of(consumer);
      if constexpr (kMakesOfTiles) {
        place.values.make_queries(variant_, place.variant, index % 2, query_begin);
        place.values.make_diagonals(variant_, place.variant, index % 2, query_begin, first_key);
      }
      if constexpr (kHasGradients) {
        place.gradients.look_up(arguments_.gradients, recorded(), index % 2, query_begin, first_key, thread());
      }
      meet(1 + consumer, 128);
    }
  }

  // Gradients of tables and parameters: what a head's tiles give, between prepare() and end_head().
  __device__ void begin_gradients(int consumer) const {
    if constexpr (kHasGradients) place_of(consumer).gradients.begin(thread());
  }
  __device__ void add_numbers(const EntryNumbers& numbers, const ConsumerTile& tile, int consumer) const {
    if constexpr (kHasGradients) {
      place_of(consumer).gradients.add(arguments_.gradients, recorded(), numbers, tile.index % 2, tile.query_begin,
                                       tile.first_key + warp_row(), thread());
    }
  }
  __device__ void end_head(int consumer, int first_key) const {
    if constexpr (kHasGradients) {
      place_of(consumer).gradients.end_head(arguments_.gradients, recorded(), first_key + warp_row(), thread());
    }
  }

  /// Zeros for rows that are not in [begin, end), of a tile whose first row is `first`, by `threads` threads.
  template <class Tile>
  __device__ static void clear_rows(const Tile& tile, int first, int begin, int end, int threads) {
    // Unrolled, its stores would have all waited for that is added meanwhile; of ordered passes at d 256 a loop spills.
#pragma unroll(Config::kIsOrdered ? 4 : 1)
    for (int row = threadIdx.x % threads / 8; row < Tile::kTileRows; row += threads / 8) {
      if (first + row >= begin && first + row < end) continue;
      for (int chunk = 0; chunk < Tile::kChunks; ++chunk) {
        store_zeros(tile.at(row, 64 * chunk + threadIdx.x % 8 * 8));
      }
    }
  }

  /// A tile whose products have been started: those of queries and keys, then, as `kGroupsBehind` other groups, those
  /// of d_o and values. They become weights and gradients of scores; without score functions weights while the others
  /// are under way.
  template <int kGroupsBehind>
  __device__ void make_entries(Scores& p, Scores& d_s, ConsumerTile tile, int consumer, EntryNumbers& numbers) const {
    const bool is_steady = kKnowsSteady && tile.is_steady;
    constexpr bool kAsksEarly = kMakesOfTiles && Variant::kChangesScores && !kHasGradients;
    References references;
    if constexpr (kAsksEarly) {
      if (!is_steady) references = ask_references(tile.stage);
    }
    if ((Variant::kChangesScores && !is_steady) || (tile.part != kFullPart && !kAsksDiagonals)) {
      prepare_tile(consumer, tile.index, tile.query_begin, tile.first_key);
    }
    if (Variant::kChangesScores && !is_steady && tile.part == kFullPart) {
      if constexpr (!kAsksEarly) references = ask_references(tile.stage);
      if (has_low_rows(references)) tile.part = kPartialPart;
    }
    const auto stays = look_up(tile, consumer);
    [[maybe_unused]] unsigned floored = 0;  // bit 4j + e: the score of [j][e] is clamped
    if constexpr (!Variant::kChangesScores) {
      wait_for_products<kGroupsBehind>();
      pin(p);
      make_weights(p, tile.part, stays);
    } else if constexpr (kKeepsAhead) {
      wait_for_products<kGroupsBehind>();
      pin(p);
      if (tile.part != kFullPart) {
        floored = make_scored_weights<true>(p, tile, consumer);
      } else {
        make_scored_weights<false>(p, tile, consumer);
      }
    } else if constexpr (kKnowsSteady) {
      wait_for_products<kGroupsBehind>();
      pin(p);
      if (is_steady) make_steady_weights(p, tile.steady.factor);
    }
    // Behind a branch, which the assembler does not move this wait across: in front of it, it would come before the
    // exponentials.
    wait_for_products<0>();
    pin(p);
    pin(d_s);
    unsigned kept[Config::kHasDropout ? kQueries / 8 : 1];  // bit e of [j]: dropout keeps the weight [j][e]
    if constexpr (Config::kHasDropout) draw(kept, tile.query_begin, tile.first_key + warp_row(), tile.head);
    const Entries entries{kept, floored, tile.stage, consumer};
    if (is_steady) {
      make_gradients<false, true>(p, d_s, entries, lane_of(tile, consumer), numbers);
    } else if (tile.part != kFullPart) {  // another branch for empty parts would spill
      // Not the other branch's lane, which would be kept in registers for both.
      tile.query_begin = int(made_anew(tile.query_begin));
      make_gradients<true>(p, d_s, entries, lane_of(tile, consumer), numbers);
    } else {
      make_gradients<false>(p, d_s, entries, lane_of(tile, consumer), numbers);
    }
  }
  /// Weights of a variant without score functions.
  template <class StaysOfTile>
  __device__ void make_weights(Scores& p, int part, const StaysOfTile& stays) const {
    if (part != kFullPart) {
      make_weights<true>(p, stays);
    } else {
      make_weights<false>(p, stays);
    }
  }
  template <bool kPartial, class StaysOfTile>
  __device__ void make_weights(Scores& p, const StaysOfTile& stays) const {
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float weight = exp2_of(call_.factor * p.x[0][j][e]);
        p.x[0][j][e] = kPartial && !stays.keeps(j, e) ? 0 : weight;
      }
    }
  }

  /// Weights of products that began at their diagonals. Of a part that is not full, as scores: which of these were
  /// clamped.
  template <bool kPartial>
  __device__ unsigned make_scored_weights(Scores& p, const ConsumerTile& tile, int consumer) const {
    unsigned floored = 0;
    const float factor = this->factor_of(place_of(consumer).variant);
    const Lane lane = lane_of(tile, consumer);
    const float* const begins = begins_of(tile, consumer);
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      const float2 references = numbers_of(numbers(tile.stage), j);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = 8 * j + e % 2, key = e / 2 * 8;
        const float reference = e % 2 == 0 ? references.x : references.y;
        float& x = p.x[0][j][e];
        if constexpr (kPartial) {
          const float score = lane.score(query, key, x - begins[query - key]);
          const float weight = exp2_of(fmaf(Lane::clamped(score), kLog2E, -reference));
          x = stays_at(lane, query, key) ? weight : 0;
          floored |= unsigned(score < Lane::kFloor) << (4 * j + e);
        } else {
          x = exp2_of(fmaf(x, factor, -reference));
        }
      }
    }
    return floored;
  }
  /// What products of the lane's entries begin at: that of (query, key) is [query - key].
  __device__ const float* begins_of(const ConsumerTile& tile, int consumer) const {
    const int row = 64 * consumer + warp_row() + lane() / 4;  // the lane's first key
    return this->ahead().begins[tile.kept] + (lane() % 4 * 2 - row + kKeys - 1);
  }

  /// What make_gradients is told of a tile.
  struct Entries {
    const unsigned* kept;  // bit e of [j]: dropout keeps the weight [j][e]
    unsigned floored;      // of weights that are there: whose scores were clamped
    int stage;             // of queries
    int consumer;
  };

  /// Whether there are keys that do not exist: zeros stand for them and their values, from both consumers.
  __device__ bool clear_missing_keys(int key_begin) const {
    const SequenceShape& shape = arguments_.sequences[sequence()];
    if (key_begin >= shape.key_start && key_begin + kKeys <= shape.keys) return false;
    clear_rows(this->key_tile(), key_begin, shape.key_start, shape.keys, 256);
    clear_rows(this->value_tile(), key_begin, shape.key_start, shape.keys, 256);
    publish_writes();
    meet(3, 256);
    return true;
  }

  /// A lane's part of a tile's references: asked for before what else a tile needs is made, since they come late while
  /// the tensor cores read shared memory.
  struct References {
    float of[kQueries / 32];
  };
  __device__ References ask_references(int stage) const {
    References references;
#pragma unroll
    for (int half = 0; half < kQueries / 32; ++half) {
      asm volatile("ld.shared.f32 %0, [%1];"
                   : "=f"(references.of[half])
                   : "r"(numbers(stage) + (lane() + 32 * half) * 4)
                   : "memory");
    }
    return references;
  }
  /// Whether a query has one so low that the clamp of its scores makes a difference.
  __device__ static bool has_low_rows(const References& references) {
    float lowest = 0;
#pragma unroll
    for (const float reference : references.of) lowest = fminf(lowest, reference);
    return __any_sync(~0u, lowest < kLeastFreeBase);
  }

  __device__ void clear_missing_queries(int query_begin, int consumer, int stage) const {
    const int end = arguments_.sequences[sequence()].queries;
    clear_rows(query_tile(stage), query_begin, 0, end, 128);
    clear_rows(gradient_tile(stage), query_begin, 0, end, 128);
    publish_writes();
    meet(1 + consumer, 128);
  }

  /// The numbers of a lane's queries in column block j: (query 2t, query 2t + 1).
  __device__ static float2 numbers_of(unsigned from, int j) {
    float2 pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(pair.x), "=f"(pair.y)
                 : "r"(from + (8 * j + lane() % 4 * 2) * 4)
                 : "memory");
    return pair;
  }

  /// What products begin at: see prepare_backward, and kKeepsAhead.
  __device__ void preset(Scores& p, Scores& d_s, const ConsumerTile& tile, int consumer) const {
    const int stage = tile.stage;
    if constexpr (kKeepsAhead) {
      const float* const begins = begins_of(tile, consumer);
#pragma unroll
      for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) p.x[0][j][e] = begins[8 * j + e % 2 - e / 2 * 8];
      }
    } else if constexpr (kKnowsSteady) {
      if (tile.is_steady) {
        const SteadyRun& run = tile.steady;
        preset_from(p, numbers(stage), [&](float reference) { return fmaf(reference, -run.inverse, run.begin); });
      } else {
        p.clear();
      }
    } else if constexpr (!Variant::kChangesScores) {
      preset_from(p, numbers(stage));
    }
    if constexpr (!Config::kHasDropout) preset_from(d_s, numbers(stage) + kQueries * 4);
  }
  struct Same {
    __device__ float operator()(float x) const { return x; }
  };
  template <class Function = Same>
  __device__ static void preset_from(Scores& x, unsigned from, const Function& function = {}) {
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      const float2 pair = numbers_of(from, j);
      x.x[0][j][0] = x.x[0][j][2] = function(pair.x);
      x.x[0][j][1] = x.x[0][j][3] = function(pair.y);
    }
  }

  /// Products, or without score functions weights, turned into weights as d_v takes them and gradients of scores.
  template <bool kPartial, bool kIsSteady = false>
  __device__ void make_gradients(Scores& p, Scores& d_s, const Entries& entries, const Lane& lane,
                                 EntryNumbers& numbers_of_variant) const {
    const int stage = entries.stage;
    constexpr bool kGuards = kPartial || (Variant::kChangesScores && !Variant::kSlopeIsFinite);
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      float2 references = {0, 0}, deltas = {0, 0};
      if constexpr (Variant::kChangesScores && !kKeepsAhead && !kIsSteady) references = numbers_of(numbers(stage), j);
      if constexpr (Config::kHasDropout) deltas = numbers_of(numbers(stage) + kQueries * 4, j);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = 8 * j + e % 2, key = e / 2 * 8;
        const float product = p.x[0][j][e], reference = e % 2 == 0 ? references.x : references.y;
        float weight, slope = 1;
        bool is_floored = false;
        if constexpr (!Variant::kChangesScores) {
          weight = product;  // which it is already
        } else if constexpr (kIsSteady) {
          weight = product;  // likewise
          slope = lane.slope(query, key, 0);
        } else if constexpr (kKeepsAhead) {
          weight = product;
          is_floored = kPartial && (entries.floored >> (4 * j + e) & 1) != 0;
          slope = is_floored ? 0 : lane.slope(query, key, 0);
        } else if constexpr (kPartial) {
          const float score = lane.score(query, key, product);
          weight = exp2_of(fmaf(Lane::clamped(score), kLog2E, -reference));
          is_floored = score < Lane::kFloor;
          slope = is_floored ? 0 : lane.slope(query, key, product);
        } else {
          weight = exp2_of(lane.exponent(query, key, product, reference));
          slope = lane.slope(query, key, product);
        }
        if constexpr (kPartial && Variant::kChangesScores && !kKeepsAhead)
          weight = stays_at(lane, query, key) ? weight : 0;
        float gradient = d_s.x[0][j][e];
        if constexpr (Config::kHasDropout) {
          const bool drawn = entries.kept[j] >> e & 1;
          gradient = (drawn ? gradient * arguments_.dropout.scale : 0) + (e % 2 == 0 ? deltas.x : deltas.y);
          p.x[0][j][e] = drawn ? weight : 0;
        } else {
          p.x[0][j][e] = weight;
        }
        gradient *= weight;
        if constexpr (kHasGradients) {
          if constexpr (kGuards) gradient = weight == 0 ? 0 : gradient;
          numbers_of_variant.enter(j, e);
          add_entry<kPartial>(numbers_of_variant, lane.query_index(query), lane.key_index(key), product,
                              is_floored && Variant::kHasOneStage ? 0 : gradient, entries.consumer);
        }
        if constexpr (Variant::kChangesScores) gradient *= slope;
        if constexpr (kGuards) gradient = weight == 0 ? 0 : gradient;  // whatever else is infinite or NaN there
        d_s.x[0][j][e] = gradient;
      }
    }
  }

  /// What an entry gives to tables and parameters. Only in a partial tile may a score be clamped; of several stages'
  /// the recorded text finds out whose is, by making them once more.
  template <bool kPartial>
  __device__ void add_entry(EntryNumbers& numbers, int query, int key, float product, float d_score,
                            int consumer) const {
    const typename Recorded::Place& place = place_of(consumer).gradients.place();
    Recorded::template add_gradients<kPartial && !Variant::kHasOneStage>(
        recorded(), place, Recorded::query_values(recorded(), place, query),
        Recorded::key_values(recorded(), place, key), query, key, arguments_.scale * product, d_score, numbers);
  }
  /// The variant's arguments as its recorded text names them.
  __device__ const typename Recorded::Arguments& recorded() const {
    return reinterpret_cast<const typename Recorded::Arguments&>(variant_);
  }

  /// Which weights dropout keeps. A lane holds keys g and g + 8 of a block of 16, so two bytes of each query's block.
  __device__ void draw(unsigned* kept, int query_begin, int first_key, int head) const {
    const DropoutArguments& dropout = arguments_.dropout;
    const int head_index = sequence() * arguments_.h_q + head, g = lane() / 4;
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      kept[j] = 0;
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const int query = query_begin + 8 * j + lane() % 4 * 2 + column;
        const uint4 words = dropout_words(dropout, first_key / 16, query, head_index);
        const unsigned near = (g < 4 ? words.x : words.y) >> 8 * (g % 4) & 0xff;
        const unsigned far = (g < 4 ? words.z : words.w) >> 8 * (g % 4) & 0xff;
        kept[j] |= (near < dropout.keep_below ? 1u : 0u) << column;
        kept[j] |= (far < dropout.keep_below ? 1u : 0u) << (2 + column);
      }
    }
  }
};

}  // namespace tilewise::cuda::sm90

// Backward attention for compute capability 9.0: docs/kernels/hopper.md draws how it runs.
#pragma once

#include "philox.h"
#include "sm90/backward_rows.h"
#include "sm90/lane_scores.h"
#include "sm90/store.h"
#include "sm90/tma.h"
#include "sm90/wgmma.h"
#include "softmax.h"
#include "walk.h"

namespace tilewise::cuda::sm90 {

/// A block: the gradients of 128 keys of a key head, and their part of d_q. One producer thread, and two consumer
/// warpgroups of 64 keys each.
///
/// Products are made transposed, with keys as rows, so that P^T and d_s^T are left operands in registers; d_s also goes
/// through shared memory, where both consumers' halves together make d_q^T = k^T d_s^T.
///
/// Config has Element, kHeadQk, kHeadV (up to 128), kStages (tiles of queries in shared memory), kHasLists,
/// kHasDropout, kProducerRegisters, kConsumerRegisters.
template <class Config, class Variant>
class Backward {
 public:
  using Element = typename Config::Element;
  using Sizes = BackwardSizes<Config>;
  static constexpr int kQueries = Sizes::kQueries, kKeys = Sizes::kKeys, kStages = Config::kStages;
  static constexpr int kThreads = 128 * (1 + Sizes::kConsumers);
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  /// Narrow heads leave registers for a consumer's keys and values: half the reads of shared memory.
  static constexpr bool kKeysInRegisters = kColumnsQk <= 64, kValuesInRegisters = kColumnsV <= 64;
  using KeyTile = ChunkedTile<kKeys, kColumnsQk>;
  using ValueTile = ChunkedTile<kKeys, kColumnsV>;
  using QueryTile = ChunkedTile<kQueries, kColumnsQk>;
  using GradientTile = ChunkedTile<kQueries, kColumnsV>;  // of d_o
  using ScoreTile = ChunkedTile<kQueries, kKeys>;         // d_s: [queries, keys], a chunk from each consumer

  /// What a consumer keeps of the head that it is at.
  struct Place {
    typename Variant::Place variant;
    KeptValues<Variant, kQueries, 64, 2, 1, 2> values;
  };
  using Values = decltype(Place::values);
  using Lane = LaneScores<Variant, Values, 64>;

  static constexpr int kStageBytes = QueryTile::kBytes + GradientTile::kBytes;
  static constexpr int kStagesAt = KeyTile::kBytes + ValueTile::kBytes;
  static constexpr int kScoresAt = kStagesAt + kStages * kStageBytes;
  static constexpr int kNumbersAt = kScoresAt + 2 * ScoreTile::kBytes;  // reference and delta of a tile's queries
  static constexpr int kNumbersBytes = 2 * kQueries * 4;
  static constexpr int kTileBytes = kNumbersAt + kStages * kNumbersBytes;
  static constexpr int kBarriers = 1 + 2 * kStages + 4;
  static constexpr int kPlacesAt = (kTileBytes + 8 * kBarriers + 15) / 16 * 16;
  static constexpr int kPlaceBytes = (int(sizeof(Place)) + 15) / 16 * 16;
  static constexpr int kSharedBytes = kPlacesAt + Sizes::kConsumers * kPlaceBytes;

  __device__ Backward(const BackwardCall& call, const typename Variant::Arguments& variant, unsigned char* shared)
      : call_(call),
        arguments_(call.arguments),
        variant_(variant),
        shared_(shared),
        base_(static_cast<unsigned>(__cvta_generic_to_shared(shared))) {}

  __device__ void run() {
    const SequenceShape& shape = arguments_.sequences[blockIdx.z];
    int tile = blockIdx.x;
    if constexpr (Config::kHasLists) tile = row_of(arguments_.lists, blockIdx.z, first_head(), tile);
    if (tile * kKeys >= shape.keys) return;
    const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);
    if (threadIdx.x == 0) {
      if (base_ % 1024 != 0) __trap();  // what swizzling rests on
      create_barriers();
    }
    __syncthreads();
    if (warpgroup == 0) {
      shrink_registers<Config::kProducerRegisters>();
      if (threadIdx.x == 0) produce(tile);
    } else {
      grow_registers<Config::kConsumerRegisters>();
      consume(tile, warpgroup - 1);
    }
  }

 private:
  using Scores = Accumulator<1, kQueries / 8>;       // [keys, queries]
  using QuerySums = Accumulator<1, Sizes::kBlocks>;  // d_q^T: [64 columns, queries]
  using KeySums = Accumulator<1, kColumnsQk / 8>;    // d_k
  using ValueSums = Accumulator<1, kColumnsV / 8>;   // d_v
  using Fragments = LeftFragment[kQueries / 16];     // of scores
  using KeyFragments = LeftFragment[kColumnsQk / 16];
  using ValueFragments = LeftFragment[kColumnsV / 16];

  __device__ KeyTile key_tile() const { return {base_}; }
  __device__ ValueTile value_tile() const { return {base_ + KeyTile::kBytes}; }
  __device__ QueryTile query_tile(int stage) const { return {base_ + kStagesAt + stage * kStageBytes}; }
  __device__ GradientTile gradient_tile(int stage) const { return {query_tile(stage).address + QueryTile::kBytes}; }
  __device__ ScoreTile score_tile(int stage) const { return {base_ + kScoresAt + stage * ScoreTile::kBytes}; }
  __device__ unsigned numbers(int stage) const { return base_ + kNumbersAt + stage * kNumbersBytes; }
  __device__ Barrier barrier(int index) const { return {base_ + kTileBytes + 8 * index}; }
  __device__ Barrier keys_full() const { return barrier(0); }
  __device__ Barrier full(int stage) const { return barrier(1 + stage); }
  __device__ Barrier empty(int stage) const { return barrier(1 + kStages + stage); }
  __device__ Barrier scores_full(int stage) const { return barrier(1 + 2 * kStages + stage); }
  __device__ Barrier scores_empty(int stage) const { return barrier(3 + 2 * kStages + stage); }
  __device__ Place& place_of(int consumer) const {
    return *reinterpret_cast<Place*>(shared_ + kPlacesAt + consumer * kPlaceBytes);
  }

  __device__ void create_barriers() const {
    constexpr int kWarps = 4 * Sizes::kConsumers;
    keys_full().create(1);
    for (int stage = 0; stage < kStages; ++stage) {
      full(stage).create(1);
      empty(stage).create(kWarps);
    }
    for (int stage = 0; stage < 2; ++stage) {
      scores_full(stage).create(kWarps);
      scores_empty(stage).create(kWarps);
    }
    publish_barriers();
  }

  /// The query tiles that meet a key tile.
  __device__ auto walk_of(int tile, int head) const {
    if constexpr (Config::kHasLists) {
      return ListWalk(arguments_.lists, blockIdx.z, head, tile);
    } else {
      return AllTiles{(arguments_.sequences[blockIdx.z].queries + kQueries - 1) / kQueries};
    }
  }
  __device__ int first_head() const { return blockIdx.y * arguments_.heads_per_kv; }
  /// A query tile's number in the workspace.
  __device__ long long workspace_tile(int head, int tile) const {
    return (static_cast<long long>(blockIdx.z) * arguments_.h_q + head) * call_.query_tiles + tile;
  }

  // ---- The producer.

  __device__ void produce(int tile) const {
    const SequenceShape& shape = arguments_.sequences[blockIdx.z];
    const int kv_head = blockIdx.y;
    const int batch = arguments_.queries_packed ? 0 : blockIdx.z, kv_batch = arguments_.keys_packed ? 0 : blockIdx.z;
    const int first_key = (arguments_.keys_packed ? shape.key_token : 0) + tile * kKeys;
    const int first_query = arguments_.queries_packed ? shape.query_token : 0;
    keys_full().arrive_expecting(KeyTile::kBytes + ValueTile::kBytes);
    load({&call_.k, kv_batch, kv_head}, key_tile(), first_key, keys_full());
    load({&call_.v, kv_batch, kv_head}, value_tile(), first_key, keys_full());
    Turn<kStages> turn;
#pragma unroll 1
    for (int head = first_head(); head < first_head() + arguments_.heads_per_kv; ++head) {
      const auto walk = walk_of(tile, head);
#pragma unroll 1
      for (int i = 0; i < walk.count(); ++i) {
        const int query_tile_number = walk.visit(i).tile();
        const int stage = int(made_anew(turn.stage()));
        const Barrier ready = full(stage);
        empty(stage).wait(turn.parity() ^ 1);
        ready.arrive_expecting(kStageBytes + kNumbersBytes);
        load({&call_.q, batch, head}, query_tile(stage), first_query + query_tile_number * kQueries, ready);
        load({&call_.d_o, batch, head}, gradient_tile(stage), first_query + query_tile_number * kQueries, ready);
        const long long place = workspace_tile(head, query_tile_number) * kQueries;
        start_copy(numbers(stage), arguments_.reference + place, kQueries * 4, ready);
        start_copy(numbers(stage) + kQueries * 4, arguments_.delta + place, kQueries * 4, ready);
        turn = turn.plus(1);
      }
    }
  }

  template <class Tile>
  __device__ static void load(const Rows& rows, const Tile& tile, int row, Barrier ready) {
#pragma unroll 1
    for (int chunk = 0; chunk < Tile::kChunks; ++chunk) rows.start(tile.chunk(chunk), 64 * chunk, row, ready);
  }

  // ---- The consumers.

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int thread() { return threadIdx.x % 128; }
  __device__ static int warp_row() { return threadIdx.x / 32 % 4 * 16; }  // in the consumer's 64 keys
  __device__ static bool is_first_lane() { return threadIdx.x % 32 == 0; }

  __device__ void consume(int tile, int consumer) const {
    const SequenceShape& shape = arguments_.sequences[blockIdx.z];
    const int key_begin = tile * kKeys;
    const bool has_missing_keys = key_begin < shape.key_start || key_begin + kKeys > shape.keys;
    keys_full().wait(0);
    if (has_missing_keys) {
      clear_rows(key_tile(), key_begin, shape.key_start, shape.keys, 256);
      clear_rows(value_tile(), key_begin, shape.key_start, shape.keys, 256);
      publish_writes();
      meet(3, 256);
    }
    KeyFragments k;
    ValueFragments v;
    if constexpr (kKeysInRegisters) load_rows(k, key_tile(), consumer);
    if constexpr (kValuesInRegisters) load_rows(v, value_tile(), consumer);
    KeySums d_k;
    ValueSums d_v;
    d_k.clear();
    d_v.clear();
    Turn<kStages> turn;
    long long last = -1;  // the query tile before, in the workspace
#pragma unroll 1
    for (int head = first_head(); head < first_head() + arguments_.heads_per_kv; ++head) {
      prepare(consumer, head, key_begin + 64 * consumer);
      const auto walk = walk_of(tile, head);
      const int count = walk.count();
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        const Visit visit = walk.visit(i);
        const bool is_partial = visit.is_partial() || has_missing_keys;
        step(visit.tile(), is_partial, head, key_begin, consumer, turn, last, k, v, d_k, d_v);
        last = workspace_tile(head, visit.tile());
        turn = turn.plus(1);
      }
    }
    if (last >= 0) {
      const Turn<2> before = scores_turn(turn.plus(~0u));
      scores_full(before.stage()).wait(before.parity());
      QuerySums d_q;
      begin_products();
      start_query_sums(d_q, consumer, before.stage());
      wait_for_products<0>();
      pin(d_q);
      add_to_workspace(d_q, last, consumer);
    }
    finish(d_k, d_v, shape, key_begin + 64 * consumer);
  }

  __device__ static Turn<2> scores_turn(const Turn<kStages>& turn) { return {turn.count}; }

  __device__ void prepare(int consumer, int head, int first_key) const {
    meet(1 + consumer, 128);  // all are done with the head before
    Place& place = place_of(consumer);
    if (thread() == 0) {
      place.variant =
          Variant::place_of(variant_, arguments_.sequences[blockIdx.z], blockIdx.z, head, blockIdx.y, arguments_.scale);
    }
    meet(1 + consumer, 128);
    if constexpr (Values::kKeepsKeys) {
      place.values.make_keys(variant_, place.variant, 0, first_key);
      meet(1 + consumer, 128);
    }
  }

  /// What the variant keeps for a tile: made while products are under way.
  __device__ void prepare_tile(int consumer, int index, int query_begin, int first_key) const {
    if constexpr (Values::kKeepsQueries || Values::kKeepsDiagonals) {
      Place& place = place_of(consumer);
      place.values.make_queries(variant_, place.variant, index % 2, query_begin);
      place.values.make_diagonals(variant_, place.variant, index % 2, query_begin, first_key);
      meet(1 + consumer, 128);
    }
  }

  /// Zeros for rows that are not in [begin, end), of a tile whose first row is `first`, by `threads` threads.
  template <class Tile>
  __device__ static void clear_rows(const Tile& tile, int first, int begin, int end, int threads) {
    for (int row = threadIdx.x % threads / 8; row < Tile::kTileRows; row += threads / 8) {
      if (first + row >= begin && first + row < end) continue;
      for (int chunk = 0; chunk < Tile::kChunks; ++chunk) {
        store_zeros(tile.at(row, 64 * chunk + threadIdx.x % 8 * 8));
      }
    }
  }

  template <int kFragments, class Tile>
  __device__ static void load_rows(LeftFragment (&to)[kFragments], const Tile& tile, int consumer) {
    const int row = 64 * consumer + warp_row() + lane() % 16;
#pragma unroll
    for (int k = 0; k < kFragments; ++k) load_matrices(to[k].pairs, tile.at(row, 16 * k + lane() / 16 * 8));
  }

  /// One tile of queries. Its d_q is made in the next step: by then the other consumer has its half of d_s, too.
  __device__ void step(int query_tile_number, bool is_partial, int head, int key_begin, int consumer,
                       const Turn<kStages>& turn, long long last, const KeyFragments& k, const ValueFragments& v,
                       KeySums& d_k, ValueSums& d_v) const {
    const int stage = turn.stage();
    const int query_begin = query_tile_number * kQueries;
    const Turn<2> now = scores_turn(turn), before = scores_turn(turn.plus(~0u));
    full(stage).wait(turn.parity());
    if (query_begin + kQueries > arguments_.sequences[blockIdx.z].queries) {
      is_partial = true;
      clear_missing_queries(query_begin, consumer, stage);
    }
    Scores p, d_s;
    preset(p, d_s, stage);
    pin(p);
    pin(d_s);
    begin_products();
    start_scores(p, d_s, k, v, consumer, stage);
    if (Variant::kChangesScores || is_partial) {
      prepare_tile(consumer, now.stage(), query_begin, key_begin + 64 * consumer);
    }
    if (Variant::kChangesScores && !is_partial) is_partial = has_low_rows(stage);
    wait_for_products<0>();
    pin(p);
    pin(d_s);
    unsigned kept[Config::kHasDropout ? kQueries / 8 : 1];  // bit e of [j]: dropout keeps the weight [j][e]
    if constexpr (Config::kHasDropout) draw(kept, query_begin, key_begin + 64 * consumer + warp_row(), head);
    const auto lane_scores = [&](int tile_query) {
      return Lane(variant_, place_of(consumer).variant, place_of(consumer).values, now.stage(), 0, now.stage(),
                  tile_query, key_begin + 64 * consumer, lane() % 4 * 2, warp_row() + lane() / 4);
    };
    if (is_partial) {
      // Not the other branch's lane, which would be kept in registers for both.
      make_gradients<true>(p, d_s, kept, lane_scores(int(made_anew(query_begin))), stage);
    } else {
      make_gradients<false>(p, d_s, kept, lane_scores(query_begin), stage);
    }
    Fragments weights, d_scores;
    fragments_of(weights, p);
    fragments_of(d_scores, d_s);
    scores_empty(now.stage()).wait(now.parity() ^ 1);
    store_scores(d_scores, consumer, now.stage());
    publish_writes();
    __syncwarp();
    scores_full(now.stage()).arrive_if(is_first_lane());
    if (last >= 0) scores_full(before.stage()).wait(before.parity());
    // In the first step these products have no meaning and are dropped: under a condition they would cost registers.
    QuerySums d_q;
    pin(d_k);
    pin(d_v);
    begin_products();
    start_query_sums(d_q, consumer, before.stage());
    add_product<Element>(d_v, weights, Operand::of(gradient_tile(stage).address, kQueries));
    add_product<Element>(d_k, d_scores, Operand::of(query_tile(stage).address, kQueries));
    commit_products();
    wait_for_products<1>();
    pin(d_q);
    if (last >= 0) {
      scores_empty(before.stage()).arrive_if(is_first_lane());
      add_to_workspace(d_q, last, consumer);
    }
    wait_for_products<0>();
    pin(d_k);
    pin(d_v);
    empty(stage).arrive_if(is_first_lane());
  }

  /// Whether a query of the tile has a reference so low that the clamp of its scores makes a difference.
  __device__ bool has_low_rows(int stage) const {
    float lowest = 0;
#pragma unroll
    for (int half = 0; half < kQueries / 32; ++half) {
      float reference;
      asm volatile("ld.shared.f32 %0, [%1];"
                   : "=f"(reference)
                   : "r"(numbers(stage) + (lane() + 32 * half) * 4)
                   : "memory");
      lowest = fminf(lowest, reference);
    }
    return __any_sync(~0u, lowest < kLeastFreeBase);
  }

  __device__ void clear_missing_queries(int query_begin, int consumer, int stage) const {
    const int end = arguments_.sequences[blockIdx.z].queries;
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

  /// What products begin at: see prepare_backward.
  __device__ void preset(Scores& p, Scores& d_s, int stage) const {
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      if constexpr (!Variant::kChangesScores) {
        const float2 of_scores = numbers_of(numbers(stage), j);
        p.x[0][j][0] = p.x[0][j][2] = of_scores.x;
        p.x[0][j][1] = p.x[0][j][3] = of_scores.y;
      }
      if constexpr (!Config::kHasDropout) {
        const float2 of_weights = numbers_of(numbers(stage) + kQueries * 4, j);
        d_s.x[0][j][0] = d_s.x[0][j][2] = of_weights.x;
        d_s.x[0][j][1] = d_s.x[0][j][3] = of_weights.y;
      }
    }
  }

  /// p (+)= k q^T and d_s (+)= v d_o^T, started.
  __device__ void start_scores(Scores& p, Scores& d_s, const KeyFragments& k, const ValueFragments& v, int consumer,
                               int stage) const {
    constexpr bool kClearScores = Variant::kChangesScores, kClearGradients = Config::kHasDropout;
    const Operand queries = Operand::of(query_tile(stage).address, kQueries);
    const Operand gradients = Operand::of(gradient_tile(stage).address, kQueries);
    if constexpr (kKeysInRegisters) {
      multiply_rows<Element, kClearScores>(p, k, queries, kQueries);
    } else {
      multiply_rows<Element, kClearScores, kColumnsQk>(p, Operand::of(key_tile().address + consumer * 64 * 128, kKeys),
                                                       kKeys, queries, kQueries);
    }
    if constexpr (kValuesInRegisters) {
      multiply_rows<Element, kClearGradients>(d_s, v, gradients, kQueries);
    } else {
      multiply_rows<Element, kClearGradients, kColumnsV>(
          d_s, Operand::of(value_tile().address + consumer * 64 * 128, kKeys), kKeys, gradients, kQueries);
    }
    commit_products();
  }

  /// d_q^T = k^T d_s^T of this consumer's columns or queries, started.
  __device__ void start_query_sums(QuerySums& d_q, int consumer, int stage) const {
    const int chunk = Sizes::kChunksQk == 2 ? consumer : 0;
    const int first = Sizes::kChunksQk == 2 ? 0 : consumer * Sizes::kQueriesOfConsumer;
    multiply_columns_by_rows<Element, kKeys / 16>(d_q, Operand::of(key_tile().chunk(chunk), kKeys),
                                                  Operand::of(score_tile(stage).address + first * 128, kQueries),
                                                  kQueries);
    commit_products();
  }

  __device__ void add_to_workspace(const QuerySums& d_q, long long tile, int consumer) const {
    float* const to = arguments_.d_q_sums + tile * Sizes::kTileFloats + Sizes::place(consumer, 0, thread());
#pragma unroll
    for (int j = 0; j < Sizes::kBlocks; ++j) {
      const float(&x)[4] = d_q.x[0][j];
      asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to + j * 512), "f"(x[0]), "f"(x[1]), "f"(x[2]),
                   "f"(x[3])
                   : "memory");
    }
  }

  /// Products turned into weights (as d_v takes them) and score gradients.
  template <bool kPartial>
  __device__ void make_gradients(Scores& p, Scores& d_s, const unsigned* kept, const Lane& lane, int stage) const {
    const SequenceShape& shape = arguments_.sequences[blockIdx.z];
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      float2 references = {0, 0}, deltas = {0, 0};
      if constexpr (Variant::kChangesScores) references = numbers_of(numbers(stage), j);
      if constexpr (Config::kHasDropout) deltas = numbers_of(numbers(stage) + kQueries * 4, j);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = 8 * j + e % 2, key = e / 2 * 8;
        const float product = p.x[0][j][e], reference = e % 2 == 0 ? references.x : references.y;
        float weight, slope = 1;
        if constexpr (!Variant::kChangesScores) {
          weight = exp2_of(call_.factor * product);
        } else if constexpr (kPartial) {
          const float score = lane.score(query, key, product);
          weight = exp2_of(fmaf(Lane::clamped(score), kLog2E, -reference));
          slope = score < Lane::kFloor ? 0 : lane.slope(query, key, product);
        } else {
          weight = exp2_of(lane.exponent(query, key, product) - reference);
          slope = lane.slope(query, key, product);
        }
        if constexpr (kPartial) {
          // No short cuts: a branch for each of 32 numbers would cost more.
          const bool stays = lane.keeps(query, key) & (lane.query_index(query) < shape.queries) &
                             (lane.key_index(key) >= shape.key_start) & (lane.key_index(key) < shape.keys);
          weight = stays ? weight : 0;
        }
        float gradient = d_s.x[0][j][e];
        if constexpr (Config::kHasDropout) {
          const bool drawn = kept[j] >> e & 1;
          gradient = (drawn ? gradient * arguments_.dropout.scale : 0) + (e % 2 == 0 ? deltas.x : deltas.y);
          p.x[0][j][e] = drawn ? weight : 0;
        } else {
          p.x[0][j][e] = weight;
        }
        gradient *= weight;
        if constexpr (Variant::kChangesScores) gradient *= slope;
        if constexpr (kPartial || (Variant::kChangesScores && !Variant::kSlopeIsFinite)) {
          gradient = weight == 0 ? 0 : gradient;  // whatever else is infinite or NaN there
        }
        d_s.x[0][j][e] = gradient;
      }
    }
  }

  /// Which weights dropout keeps. A lane holds keys g and g + 8 of a block of 16, so two bytes of each query's block.
  __device__ void draw(unsigned* kept, int query_begin, int first_key, int head) const {
    const DropoutArguments& dropout = arguments_.dropout;
    const int head_index = blockIdx.z * arguments_.h_q + head, g = lane() / 4;
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

  /// Rounded to Element: left operands.
  __device__ static void fragments_of(Fragments& to, const Scores& x) {
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) {
      const auto& near = x.x[0][2 * k];
      const auto& far = x.x[0][2 * k + 1];
      to[k].pairs[0] = packed(Element{}, near[0], near[1]);
      to[k].pairs[1] = packed(Element{}, near[2], near[3]);
      to[k].pairs[2] = packed(Element{}, far[0], far[1]);
      to[k].pairs[3] = packed(Element{}, far[2], far[3]);
    }
  }

  /// d_s^T, as fragments, to shared memory as [queries, keys].
  __device__ void store_scores(const Fragments& d_scores, int consumer, int stage) const {
    const ScoreTile tile = score_tile(stage);
    const int row = lane() / 16 * 8 + lane() % 8, column = 64 * consumer + warp_row() + lane() / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) store_transposed(tile.at(16 * k + row, column), d_scores[k].pairs);
  }

  __device__ void finish(const KeySums& d_k, const ValueSums& d_v, const SequenceShape& shape, int first_key) const {
    const int row = first_key + warp_row() + lane() / 4;
    const float keys[2] = {arguments_.scale, arguments_.scale};
    float values[2] = {1, 1};
    if constexpr (Config::kHasDropout) values[0] = values[1] = arguments_.dropout.scale;
    if (arguments_.d_k.data != nullptr) {
      store_rows<Config::kHeadQk>(rows_of(arguments_.d_k, shape), arguments_.d_k.row, row, shape.keys, d_k, keys);
    }
    if (arguments_.d_v.data != nullptr) {
      store_rows<Config::kHeadV>(rows_of(arguments_.d_v, shape), arguments_.d_v.row, row, shape.keys, d_v, values);
    }
  }

  __device__ Element* rows_of(const TensorView& view, const SequenceShape& shape) const {
    return static_cast<Element*>(view.data) + blockIdx.z * view.batch + blockIdx.y * view.head +
           (arguments_.keys_packed ? shape.key_token : 0) * view.row;
  }

  const BackwardCall& call_;
  const BackwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  unsigned char* const shared_;
  const unsigned base_;
};

}  // namespace tilewise::cuda::sm90

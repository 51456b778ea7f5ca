// Backward attention for compute capability 9.0: docs/kernels/hopper.md draws how it runs.
#pragma once

#include "sm90/backward_produce.h"
#include "sm90/wide_backward.h"

namespace tilewise::cuda::sm90 {

/// The two consumers of heads of up to 128 columns: warpgroups of 64 keys each.
///
/// Products are made transposed, with keys as rows, so that P^T and d_s^T are left operands in registers; d_s also goes
/// through shared memory, where both consumers' halves together make d_q^T = k^T d_s^T.
template <class Config, class Variant>
class NarrowConsumers : public BackwardEntries<Config, Variant> {
  using Shared = BackwardEntries<Config, Variant>;
  using Shared::add_to_workspace, Shared::clear_missing_keys, Shared::arguments_, Shared::clear_missing_queries;
  using Shared::full, Shared::empty, Shared::scores_empty, Shared::scores_full, Shared::kKeysInRegisters;
  using Shared::kColumnsQk, Shared::kColumnsV, Shared::kKeys, Shared::kQueries, Shared::kStages, Shared::keys_full;
  using Shared::kValuesInRegisters;
  using Shared::prepare, Shared::preset, Shared::fragments_of, Shared::workspace_tile, Shared::first_head;
  using Shared::score_tile, Shared::value_tile, Shared::is_first_lane, Shared::lane, Shared::warp_row;
  using Shared::sequence, Shared::walk_of, Shared::gradient_tile, Shared::key_tile, Shared::query_tile;
  using typename Shared::ConsumerTile;
  using typename Shared::Element;
  using typename Shared::EntryNumbers;
  using typename Shared::Fragments;
  using typename Shared::KeySums;
  using typename Shared::Scores;
  using typename Shared::Sizes;
  using typename Shared::SteadyRun;
  using typename Shared::ValueSums;

 public:
  using Shared::Shared;

  __device__ void consume(int tile, int consumer) const {
    const int key_begin = this->key_begin_of(tile), first_key = key_begin + 64 * consumer;
    keys_full().wait(0);
    const bool has_missing_keys = clear_missing_keys(key_begin);
    this->begin_gradients(consumer);
    KeyFragments k;
    ValueFragments v;
    if constexpr (kKeysInRegisters) load_rows(k, key_tile(), consumer);
    if constexpr (kValuesInRegisters) load_rows(v, value_tile(), consumer);
    KeySums d_k;
    ValueSums d_v;
    d_k.clear();
    d_v.clear();
    Turn<kStages> turn;
    SteadyRun run;
    long long last = -1;  // the query tile before, in the workspace
#pragma unroll 1
    for (int head = first_head(); head < first_head() + arguments_.heads_per_kv; ++head) {
      prepare(consumer, head, first_key);
      const auto walk = walk_of(this->tile_again(tile), head);
      const int count = walk.count();
      // An ordered pass would read its sequence in shared memory behind each tile's products, 3% of its time.
      const long long head_tiles = Config::kIsOrdered ? workspace_tile(head, 0) : 0;
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        this->look_ahead(walk, i, count, head, first_key, consumer);
        const ConsumerTile queries = begin(walk, i, has_missing_keys, head, first_key, consumer, turn, run);
        step(queries, consumer, turn, last, k, v, d_k, d_v);
        const int query_tile_number = queries.query_begin / kQueries;
        last = Config::kIsOrdered ? head_tiles + query_tile_number : workspace_tile(head, query_tile_number);
        turn = turn.plus(1);
      }
      this->end_head(consumer, first_key);
    }
    // A consumer's values are read by itself alone, keys by both.
    meet(1 + consumer, 128);
    const int first_stored = this->key_begin_of(this->tile_again(tile)) + 64 * consumer;
    if (!this->is_shared()) this->store_value_sums(d_v, first_stored, value_tile(), 64 * consumer);
    if (last >= 0) {
      const Turn<2> before = scores_turn(turn.plus(~0u));
      scores_full(before.stage()).wait(before.parity());
      QuerySums d_q;
      begin_products();
      start_query_sums(d_q, consumer, before.stage());
      wait_for_products<0>();
      pin(d_q);
      add_in_turn(d_q, last, consumer, before);
    }
    if constexpr (Shared::kCountsAdded) tell(Shared::kAddedMeet, Shared::kAddedThreads);
    meet(3, 256);
    if constexpr (Shared::kMayShare) {
      if (this->is_shared()) {
        if (!this->add_parts(d_k, d_v, consumer)) return;
        this->store_value_sums(d_v, first_stored, value_tile(), 64 * consumer);
      }
    }
    this->store_key_sums(d_k, first_stored, key_tile(), 64 * consumer);
    wait_for_copies();  // a block's shared memory goes with it
  }

 private:
  using QuerySums = Accumulator<1, Sizes::kBlocks>;  // d_q^T: [64 columns, queries]
  using KeyFragments = LeftFragment[kColumnsQk / 16];
  using ValueFragments = LeftFragment[kColumnsV / 16];

  __device__ static typename Shared::KeptTurn kept_turn(const Turn<kStages>& turn) { return {turn.count}; }
  __device__ static Turn<2> scores_turn(const Turn<kStages>& turn) { return {turn.count}; }

  template <int kFragments, class Tile>
  __device__ static void load_rows(LeftFragment (&to)[kFragments], const Tile& tile, int consumer) {
    const unsigned first = tile.at(64 * consumer + warp_row() + lane() % 16, lane() / 16 * 8);
#pragma unroll
    for (int k = 0; k < kFragments; ++k) load_matrices(to[k].pairs, Tile::behind(first, k));
  }

  /// Waits for a tile's queries, of which some may be missing.
  __device__ ConsumerTile begin(const typename Shared::Walk& walk, int index, bool has_missing_keys, int head,
                                int first_key, int consumer, const Turn<kStages>& turn, SteadyRun& run) const {
    const int stage = turn.stage(), kept = kept_turn(turn).stage();
    full(stage).wait(turn.parity());
    const auto told = this->told(walk, index, stage);
    ConsumerTile tile{
        head,  told.visit.tile() * kQueries, first_key, this->part_of(told.visit, consumer, has_missing_keys),
        stage, scores_turn(turn).stage(),    kept,      has_missing_keys || told.has_missing != 0};
    if constexpr (Shared::kKeepsAhead) this->kept_full(kept).wait(kept_turn(turn).parity());
    if (told.has_missing != 0) {
      tile.part = kPartialPart;
      clear_missing_queries(tile.query_begin, consumer, stage);
    }
    const bool has_one_value = this->take_steady(run, index, consumer);
    tile.is_steady = has_one_value && tile.part == kFullPart;
    tile.steady = run;
    return tile;
  }

  /// One tile of queries. Its d_q is made in the next step: by then the other consumer has its half of d_s, too.
  __device__ void step(const ConsumerTile& tile, int consumer, const Turn<kStages>& turn, long long last,
                       const KeyFragments& k, const ValueFragments& v, KeySums& d_k, ValueSums& d_v) const {
    const int stage = tile.stage;
    const Turn<2> now = scores_turn(turn), before = scores_turn(turn.plus(~0u));
    Scores p, d_s;
    EntryNumbers numbers(arguments_.gradients);
    preset(p, d_s, tile, consumer);
    pin(p);
    pin(d_s);
    begin_products();
    start_scores(p, d_s, k, v, consumer, stage);
    this->template make_entries<1>(p, d_s, tile, consumer, numbers);
    // Before d_s is there for others: when a warp comes to the tile after the next, all have read what they found of
    // this one's diagonals.
    this->add_numbers(numbers, tile, consumer);
    Fragments weights, d_scores;
    fragments_of(weights, p);
    fragments_of(d_scores, d_s);
    scores_empty(now.stage()).wait(now.parity() ^ 1);
    this->store_scores(d_scores, 64 * consumer, now.stage());
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
      add_in_turn(d_q, last, consumer, before);
    }
    wait_for_products<0>();
    pin(d_k);
    pin(d_v);
    this->release(stage);
    if constexpr (Shared::kKeepsAhead) this->kept_empty(tile.kept).arrive_if(is_first_lane());
  }

  __device__ void add_in_turn(const QuerySums& d_q, long long tile, int consumer, const Turn<2>& visit) const {
    this->wait_for_turn(visit);
    add_to_workspace(d_q, tile, consumer);
    this->pass_turn_on(visit);
  }

  /// p (+)= k q^T and d_s (+)= v d_o^T, started.
  __device__ void start_scores(Scores& p, Scores& d_s, const KeyFragments& k, const ValueFragments& v, int consumer,
                               int stage) const {
    constexpr bool kClearScores = Variant::kChangesScores && !Shared::kKeepsAhead && !Shared::kKnowsSteady;
    constexpr bool kClearGradients = Config::kHasDropout;
    const Operand queries = Operand::of(query_tile(stage).address, kQueries);
    const Operand gradients = Operand::of(gradient_tile(stage).address, kQueries);
    if constexpr (kKeysInRegisters) {
      multiply_rows<Element, kClearScores>(p, k, queries, kQueries);
    } else {
      multiply_rows<Element, kClearScores, kColumnsQk>(p, Operand::of(key_tile().address + consumer * 64 * 128, kKeys),
                                                       kKeys, queries, kQueries);
    }
    commit_products();
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
    const int chunk = Sizes::kHalvesQueries ? 0 : consumer;
    const int first = Sizes::kHalvesQueries ? consumer * Sizes::kQueriesOfPart : 0;
    multiply_columns_by_rows<Element, kKeys / 16>(d_q, Operand::of(key_tile().chunk(chunk), kKeys),
                                                  Operand::of(score_tile(stage).address + first * 128, kQueries),
                                                  kQueries);
    commit_products();
  }
};

/// A block: the gradients of some keys of a key head, and their part of d_q. One producer thread, and two consumers.
template <class Config, class Variant>
class Backward : BackwardProducer<Config, Variant> {
  using Shared = BackwardProducer<Config, Variant>;
  /// Of the two kinds, the one that takes the heads.
  template <bool kIsWide, class Unused = void>
  struct Kind {
    using Type = NarrowConsumers<Config, Variant>;
  };
  template <class Unused>
  struct Kind<true, Unused> {
    using Type = WideConsumers<Config, Variant>;
  };

 public:
  using Shared::kSharedBytes, Shared::kThreads, Shared::kTileBytes;
  using Shared::Shared;

  __device__ void run() {
    if constexpr (!Shared::kCountsAdded) let_next_kernel_begin();
    if constexpr (Shared::kTakesWork) {
      if (threadIdx.x == 0) this->take_work();
      __syncthreads();
    }
    if (threadIdx.x == 0) this->look_up_maps();
    // What is launched behind this one relies on all that is in front of it.
    if (this->is_shared()) wait_for_kernels_before();
    const int sequence = this->sequence();
    int tile = Shared::kTakesWork ? this->work().row : int(blockIdx.x) / (Shared::kIsPaired ? 2 : 1);
    if constexpr (Config::kHasLists && Config::kIsOrdered) {
      tile = row_of(this->arguments_.lists, sequence, this->first_head(), this->work().place(gridDim.x));
    } else if constexpr (Config::kHasLists) {
      tile = row_of(this->arguments_.lists, sequence, this->first_head(), tile);
    }
    if constexpr (Config::kIsOrdered || Shared::kKeepsTile) {
      if constexpr (Shared::kTakesWork) __syncthreads();
      if (threadIdx.x == 0) this->work().row = tile;
    }
    if (tile < 0 || tile * Shared::kTileKeys >= this->arguments_.sequences[sequence].keys) return this->pass_by();
    if constexpr (Config::kHasLists) this->look_up_walk(tile);
    const int warpgroup = begin_block(this->base_, [&] { this->create_barriers(); });
    if constexpr (Shared::kIsPaired) meet_cluster();  // both have their barriers
    if (warpgroup == 0) {
      shrink_registers<Config::kProducerRegisters>();
      if (threadIdx.x == 0) this->produce(this->tile_again(tile));
      if constexpr (Shared::kKeepsAhead) {
        if (threadIdx.x >= 32) this->keep_ahead(this->tile_again(tile));
      }
      if constexpr (Shared::kCountsAdded) {
        if (threadIdx.x / 32 == 1) this->count_added();
      }
      if constexpr (Config::kIsOrdered) {
        if (threadIdx.x == 32) {
          wait_for_kernels_before();
          this->wait_for_turns();
        }
        static_assert(Shared::kPassers == 2);
        if (threadIdx.x == 64 || threadIdx.x == 96) this->pass_turns_on(threadIdx.x / 32 - 2);
      }
      if (this->is_shared()) meet_cluster();  // as consumers do before they add up
    } else {
      grow_registers<Config::kConsumerRegisters>();
      wait_for_kernels_before();  // zeros, which sums of d_q are added to
      typename Kind<Shared::Sizes::kIsWide>::Type(this->call_, this->variant_, this->shared_)
          .consume(this->tile_again(tile), warpgroup - 1);
    }
    // The other ones arrive at this one's barriers, or read its sums, no more.
    if (Shared::kIsPaired || this->is_shared()) meet_cluster();
  }
};

}  // namespace tilewise::cuda::sm90

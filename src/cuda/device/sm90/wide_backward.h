// Backward attention for compute capability 9.0, for heads of more than 128 columns.
#pragma once

#include "sm90/backward_entries.h"

namespace tilewise::cuda::sm90 {

/// Two consumers with the same 64 keys: d_k and d_v of so many columns do not fit in one's registers. The first one
/// makes d_v, and d_q of the tile before; the second one d_k, and d_s, which the first one gets through shared memory.
/// Both make the weights: three products each, where five would do for both.
template <class Config, class Variant>
class WideConsumers : public BackwardEntries<Config, Variant> {
  using Shared = BackwardEntries<Config, Variant>;
  using Shared::add_to, Shared::clear_missing_keys, Shared::arguments_, Shared::clear_missing_queries;
  using Shared::kKeys, Shared::kQueries, Shared::kStages, Shared::keys_full, Shared::full, Shared::empty;
  using Shared::prepare, Shared::preset, Shared::fragments_of, Shared::workspace_tile, Shared::first_head,
      Shared::sums_of;
  using Shared::score_tile, Shared::value_tile, Shared::is_first_lane, Shared::kColumnsQk, Shared::kColumnsV;
  using Shared::scores_empty, Shared::scores_full;
  using Shared::sequence, Shared::walk_of, Shared::gradient_tile, Shared::key_tile, Shared::query_tile;
  using typename Shared::Element;
  using typename Shared::Fragments;
  using typename Shared::KeySums;
  using typename Shared::Scores;
  using typename Shared::Sizes;
  using typename Shared::ValueSums;

 public:
  using Shared::Shared;

  __device__ void consume(int tile, int consumer) const {
    const int key_begin = this->key_begin_of(tile);
    keys_full().wait(0);
    const bool has_missing_keys = clear_missing_keys(key_begin);
    if (consumer == 0) {
      make_value_sums(tile, has_missing_keys);
    } else {
      make_key_sums(tile, has_missing_keys);
    }
  }

 private:
  static constexpr int kParts = Sizes::kParts;
  using QuerySums = Accumulator<1, Sizes::kBlocks>;  // a part of d_q^T: [64 columns, queries]

  /// A tile of queries that meets the keys.
  struct Tile {
    int head, number;
    int part;  // PartClass of its entries
    Turn<kStages> turn;

    __device__ int stage() const { return turn.stage(); }
    __device__ int query_begin() const { return number * kQueries; }
    __device__ Turn<2> scores() const { return {turn.count}; }
    __device__ typename Shared::ConsumerTile with(int key_begin) const {
      return {head, query_begin(), key_begin, part, int(stage()), scores().stage()};
    }
  };

  /// Calls step(tile) for all of them, each when its queries are there.
  template <class Step>
  __device__ void for_each_tile(int tile, int consumer, bool has_missing_keys, const Step& step) const {
    Turn<kStages> turn;
#pragma unroll 1
    for (int head = first_head(); head < first_head() + arguments_.heads_per_kv; ++head) {
      prepare(consumer, head, this->key_begin_of(tile));
      const auto walk = walk_of(tile, head);
      const int count = walk.count();
#pragma unroll 1
      for (int i = 0; i < count; ++i, turn = turn.plus(1)) {
        step(begin(walk, i, head, consumer, has_missing_keys, turn));
      }
    }
  }

  /// Waits for a tile's queries.
  __device__ Tile begin(const typename Shared::Walk& walk, int index, int head, int consumer, bool has_missing_keys,
                        const Turn<kStages>& turn) const {
    full(turn.stage()).wait(turn.parity());
    const auto told = this->told(walk, index, turn.stage());
    Tile tile{head, told.visit.tile(), this->part_of(told.visit, int(this->rank()), has_missing_keys), turn};
    if (told.has_missing != 0) {
      tile.part = kPartialPart;
      clear_missing_queries(tile.query_begin(), consumer, tile.stage());
    }
    return tile;
  }

  /// p (+)= k q^T, started.
  __device__ void start_scores(Scores& p, int stage) const {
    multiply_rows<Element, Variant::kChangesScores, kColumnsQk>(
        p, Operand::of(key_tile().address, kKeys), kKeys, Operand::of(query_tile(stage).address, kQueries), kQueries);
  }

  // ---- The first consumer.

  __device__ void make_value_sums(int key_tile_number, bool has_missing_keys) const {
    const int key_begin = this->key_begin_of(key_tile_number);
    ValueSums d_v;
    d_v.clear();
    Turn<2> before{~0u};
    AddedTile added(sums_of(-1));
    long long last = -1;  // the query tile before, in the workspace
    for_each_tile(key_tile_number, 0, has_missing_keys, [&](const Tile& tile) {
      Scores p, unused;
      unused.clear();
      preset_weights(p, tile.stage());
      pin(p);
      begin_products();
      start_scores(p, tile.stage());
      commit_products();
      add_rest(added);
      NoGradients none;
      this->template make_entries<0>(p, unused, tile.with(key_begin), 0, none);
      Fragments weights;
      fragments_of(weights, p);
      pin(d_v);
      begin_products();
      add_product<Element>(d_v, weights, Operand::of(gradient_tile(tile.stage()).address, kQueries));
      commit_products();
      if (last >= 0) scores_full(before.stage()).wait(before.parity());
      // In the first step these products have no meaning and are dropped: under a condition they would cost registers.
      make_query_sums(added, before, last, [&] {
        pin(d_v);
        this->release(tile.stage());
      });
      before = tile.scores();
      last = workspace_tile(tile.head, tile.number);
    });
    if (last >= 0) {
      add_rest(added);
      scores_full(before.stage()).wait(before.parity());
      make_query_sums(added, before, last, [] {});
      add_rest(added);
    }
    // The other consumer has made d_s of the last tile, and so read the values for the last time.
    meet(1, 128);
    this->store_value_sums(d_v, key_begin, value_tile(), 0);
    meet(3, 256);
    wait_for_copies();  // a block's shared memory goes with it
  }

  /// A tile of the workspace that a thread has added to, but for its last part: registers that are added are let go of
  /// late, when the second-level cache has room. Meanwhile the next tile's scores are made.
  struct AddedTile {
    __device__ explicit AddedTile(float* sums) : sums(sums) {}

    float* sums;  // in one pair of registers for all tiles and parts: another one would be waited for, too
    long long number = -1;
    Turn<2> visit;
    QuerySums rest;
  };
  __device__ void add_rest(const AddedTile& tile) const {
    if (tile.number < 0) return;
    add_to(tile.sums, tile.rest, kParts - 1);
    this->pass_turn_on(tile.visit);
  }

  /// d_q^T = k^T d_s^T, 64 columns at a time, added to a tile of the workspace: while one part is added, the next is
  /// made. Queries are let go of behind the additions: ahead of them d 256 took 1.05 of the time causal and 1.03 full.
  template <class LetGoOfQueries>
  __device__ void make_query_sums(AddedTile& added, const Turn<2>& visit, long long tile,
                                  const LetGoOfQueries& let_go_of_queries) const {
    added.sums += (tile - added.number) * Sizes::kTileFloats;
    asm volatile("" : "+l"(added.sums));
    added.number = tile;
    added.visit = visit;
    // Of a pass in a fixed order behind the additions: ahead of them, as queries, d 256 took 1.05 of the time, 192/128
    // causal 1.10.
    const auto let_go_of_scores = [&] { scores_empty(visit.stage()).arrive_if(tile >= 0 && is_first_lane()); };
    QuerySums other;
#pragma unroll
    for (int part = 0; part <= kParts; ++part) {
      if (part < kParts) {
        begin_products();
        multiply_columns_by_rows<Element, kKeys / 16>(
            (kParts - part) % 2 == 0 ? other : added.rest, Operand::of(key_tile().chunk(part), kKeys),
            Operand::of(score_tile(visit.stage()).address, kQueries), kQueries);
        commit_products();
      }
      if (part > 0) {
        if (part < kParts) {
          wait_for_products<1>();
        } else {
          wait_for_products<0>();
        }
        QuerySums& made = (kParts - part) % 2 == 0 ? added.rest : other;
        pin(made);
        if (!Config::kIsOrdered && part == kParts) let_go_of_scores();
        if (tile < 0) continue;
        if (part == 1) this->wait_for_turn(visit);
        if (part < kParts) add_to(added.sums, made, part - 1);
      }
    }
    let_go_of_queries();
    if constexpr (Config::kIsOrdered) let_go_of_scores();
  }

  /// What the scores begin at: see prepare_backward.
  __device__ void preset_weights(Scores& p, int stage) const {
    if constexpr (!Variant::kChangesScores) this->preset_from(p, this->numbers(stage));
  }

  // ---- The second consumer.

  __device__ void make_key_sums(int key_tile_number, bool has_missing_keys) const {
    const int key_begin = this->key_begin_of(key_tile_number);
    KeySums d_k;
    d_k.clear();
    for_each_tile(key_tile_number, 1, has_missing_keys, [&](const Tile& tile) {
      Scores p, d_s;
      preset(p, d_s, tile.with(key_begin), 1);
      pin(p);
      pin(d_s);
      begin_products();
      start_scores(p, tile.stage());
      commit_products();
      multiply_rows<Element, Config::kHasDropout, kColumnsV>(d_s, Operand::of(value_tile().address, kKeys), kKeys,
                                                             Operand::of(gradient_tile(tile.stage()).address, kQueries),
                                                             kQueries);
      commit_products();
      NoGradients none;
      this->template make_entries<1>(p, d_s, tile.with(key_begin), 1, none);
      Fragments d_scores;
      fragments_of(d_scores, d_s);
      pin(d_k);
      begin_products();
      add_product<Element>(d_k, d_scores, Operand::of(query_tile(tile.stage()).address, kQueries));
      commit_products();
      const Turn<2> now = tile.scores();
      scores_empty(now.stage()).wait(now.parity() ^ 1);
      this->store_scores(d_scores, 0, now.stage());
      publish_writes();
      __syncwarp();
      scores_full(now.stage()).arrive_if(is_first_lane());
      wait_for_products<0>();
      pin(d_k);
      this->release(tile.stage());
    });
    meet(3, 256);  // the first consumer has read the keys for the last time
    this->store_key_sums(d_k, key_begin, key_tile(), 0);
    wait_for_copies();
  }
};

}  // namespace tilewise::cuda::sm90

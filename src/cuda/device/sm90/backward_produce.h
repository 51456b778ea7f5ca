// The producer of the backward kernels: it starts copies, keeps values ahead, and counts what has been added.
#pragma once

#include "sm90/added.h"
#include "sm90/backward_shared.h"
#include "sm90/tma.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class BackwardProducer : public BackwardShared<Config, Variant> {
  using Shared = BackwardShared<Config, Variant>;

 protected:
  using Shared::added, Shared::ahead, Shared::empty, Shared::factor_of, Shared::first_head, Shared::full,
      Shared::gradient_tile, Shared::kept_empty, Shared::kept_full;
  using Shared::arguments_, Shared::call_, Shared::variant_;
  using Shared::kAddedMeet, Shared::kAddedThreads, Shared::kCountsAdded, Shared::kDiagonals, Shared::kIsPaired,
      Shared::kKeptAhead, Shared::kMakers, Shared::kMakersMeet, Shared::kNumbersBytes, Shared::kPassers,
      Shared::kQueries, Shared::kStageBytes, Shared::kStages, Shared::kTurnsAhead;
  using Shared::key_begin_of, Shared::key_tile, Shared::keys_full, Shared::kv_head, Shared::may_add, Shared::numbers,
      Shared::passed_on, Shared::query_tile, Shared::rank;
  using Shared::sequence, Shared::tell, Shared::tile_anew, Shared::turn_at, Shared::turns_at, Shared::value_tile,
      Shared::visit, Shared::walk_of, Shared::work, Shared::workspace_tile;
  using typename Shared::KeptAhead;
  using typename Shared::KeptTurn;
  using typename Shared::KeyTile;
  using typename Shared::OrderedTurn;
  using typename Shared::ValueTile;
  using typename Shared::Walk;

 public:
  using Shared::Shared;

  /// What copies need to know of tensors, on its way while the block finds out what it does.
  __device__ void look_up_maps() const {
    for (const TensorMap* map : {&call_.k, &call_.v, &call_.q, &call_.d_o}) prefetch(*map);
  }
  /// Likewise the beginning of a walk: each thread that reads it would wait for the second-level cache.
  __device__ void look_up_walk(int tile) const {
    const TileLists& lists = arguments_.lists;
    const long long list = list_of(lists, sequence(), first_head(), tile);
    if (threadIdx.x == 0) prefetch(lists.count + list);
    if (threadIdx.x == 32) prefetch(lists.tiles + list * lists.capacity);
  }

  /// The producer: one thread.
  __device__ void produce(int tile) const {
    const SequenceShape& shape = arguments_.sequences[sequence()];
    const int kv_head = this->kv_head();
    const int batch = arguments_.queries_packed ? 0 : sequence(), kv_batch = arguments_.keys_packed ? 0 : sequence();
    const int first_key = (arguments_.keys_packed ? shape.key_token : 0) + key_begin_of(tile);
    const int first_query = arguments_.queries_packed ? shape.query_token : 0;
    keys_full().arrive_expecting(KeyTile::kBytes + ValueTile::kBytes);
    load({&call_.k, kv_batch, kv_head}, key_tile(), first_key, keys_full());
    load({&call_.v, kv_batch, kv_head}, value_tile(), first_key, keys_full());
    wait_for_kernels_before();  // reference and delta
    const int end = shape.queries;
    for_each_visit<kStages>(tile, [&](const Walk&, int head, const Visit& visit, const Turn<kStages>& turn) {
      const int stage = int(made_anew(turn.stage())), query_tile_number = visit.tile();
      const Barrier ready = full(stage);
      empty(stage).wait(turn.parity() ^ 1);
      tell(stage, {visit, int((query_tile_number + 1) * kQueries > end)});
      ready.arrive_expecting(kStageBytes + kNumbersBytes);
      const int row = first_query + query_tile_number * kQueries;
      if (!kIsPaired || rank() == 0) load<kIsPaired>({&call_.q, batch, head}, query_tile(stage), row, ready);
      if (!kIsPaired || rank() == 1) load<kIsPaired>({&call_.d_o, batch, head}, gradient_tile(stage), row, ready);
      const long long place = workspace_tile(head, query_tile_number) * kQueries;
      start_copy(numbers(stage), arguments_.reference + place, kQueries * 4, ready);
      start_copy(numbers(stage) + kQueries * 4, arguments_.delta + place, kQueries * 4, ready);
    });
  }

  /// The other warps of the producer's warpgroup, where there are values to be kept ahead.
  __device__ void keep_ahead(int tile) const {
    wait_for_kernels_before();
    int head_before = -1;
    for_each_visit<kKeptAhead>(tile, [&](const Walk&, int head, const Visit& visit, const KeptTurn& turn) {
      if (head != head_before) tell_variant(head);
      head_before = head;
      const int stage = int(made_anew(turn.stage()));
      kept_empty(stage).wait(turn.parity() ^ 1);
      keep_tile(stage, visit.tile() * kQueries, key_begin_of(tile_anew(tile)));
      __syncwarp();
      kept_full(int(made_anew(stage))).arrive_if(thread_read_anew() % 32 == 0);
    });
  }

  /// The number of a maker, behind the warp that starts copies.
  __device__ static int maker() { return thread_read_anew() - 32; }

  /// What they make is of this head from now on.
  __device__ void tell_variant(int head) const {
    // What follows from literals alone would be kept in registers, and spill.
    const auto& bound = (&variant_)[made_anew(0)];
    meet(kMakersMeet, kMakers);
    if (thread_read_anew() == 32) {
      ahead().variant =
          Variant::place_of(bound, arguments_.sequences[sequence()], sequence(), head, kv_head(), arguments_.scale);
    }
    meet(kMakersMeet, kMakers);
  }
  /// What a tile of queries and the block's keys keep.
  __device__ void keep_tile(int stage, int first_query, int first_key) const {
    KeptAhead& kept = ahead();
    kept.values.make_queries(variant_, kept.variant, stage, first_query, maker());
    kept.values.make_diagonals(variant_, kept.variant, stage, first_query, first_key, maker());
    const float inverse = 1 / factor_of(kept.variant);
#pragma unroll 1
    for (int i = maker(); i < kDiagonals; i += kMakers) {
      const float begin = Variant::of_diagonal(variant_, kept.variant, kept.values.diagonals[stage][i]) * inverse;
      kept.begins[stage][i] = fmaxf(-0x1p126f, fminf(begin, 0x1p126f));  // finite: weights are 0 long before
    }
  }

  /// One of the producer's warps waits for the last additions of consumers, and counts the block. The kernel behind,
  /// which reads the count, may not begin before the one in front has cleared it.
  __device__ void count_added() const {
    wait_for_kernels_before();
    let_next_kernel_begin();
    meet(kAddedMeet, kAddedThreads);
    if (thread_read_anew() == 32) AddedCount::of(call_, sequence(), kv_head()).add_block(call_);
  }
  /// A block that has no keys.
  __device__ void pass_by() const {
    if (!kCountsAdded || threadIdx.x != 0) return;
    wait_for_kernels_before();  // which clear the count
    AddedCount::of(call_, sequence(), kv_head()).add_block(call_);
  }

  /// Of an ordered pass, one thread waits for this block's turns at the tiles that it visits, and tells the consumers.
  __device__ void wait_for_turns() const {
    for_each_visit<kTurnsAhead>(work().row,
                                [&](const Walk& walk, int head, const Visit& visit, const OrderedTurn& turn) {
                                  passed_on(turn.stage()).wait(turn.parity() ^ 1);
                                  turns_at(head, visit.tile()).wait_for(turn_at(walk, visit.tile()));
                                  may_add(turn.stage()).arrive();
                                });
  }
  /// Two others, by turns, hand a tile on to the next block when the consumers have added to it. A release waits until
  /// their additions have arrived.
  __device__ void pass_turns_on(unsigned passer) const {
    for_each_visit<kTurnsAhead>(work().row, [&](const Walk&, int head, const Visit& visit, const OrderedTurn& turn) {
      if (turn.count % kPassers != passer) return;
      added(turn.stage()).wait(turn.parity());
      turns_at(head, visit.tile()).pass_on();
      passed_on(turn.stage()).arrive();
    });
  }

 private:
  /// Calls act(walk, head, visit, turn) for all tiles that the keys meet.
  template <int kRing, class Act>
  __device__ void for_each_visit(int tile, const Act& act) const {
    Turn<kRing> turn;
#pragma unroll 1
    for (int head = first_head(); head < first_head() + arguments_.heads_per_kv; ++head) {
      const auto walk = walk_of(tile_anew(tile), head);
#pragma unroll 1
      for (int i = 0; i < walk.count(); ++i, turn = turn.plus(1)) act(walk, head, visit(walk, i), turn);
    }
  }

  template <bool kForBoth = false, class Tile>
  __device__ static void load(const Rows& rows, const Tile& tile, int row, Barrier ready) {
#pragma unroll 1
    for (int chunk = 0; chunk < Tile::kChunks; ++chunk) {
      if constexpr (kForBoth) {
        rows.start_for_both(tile.chunk(chunk), 64 * chunk, row, ready);
      } else {
        rows.start(tile.chunk(chunk), 64 * chunk, row, ready);
      }
    }
  }
};

}  // namespace tilewise::cuda::sm90

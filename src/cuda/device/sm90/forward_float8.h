// Forward attention of float8_e4m3 for compute capability 9.0: docs/kernels/hopper.md draws how it runs, as that of
// 16-bit elements, with whose kernel it shares all but the consumers' steps.
#pragma once

#include "sm90/float8_values.h"
#include "sm90/float8_weights.h"
#include "sm90/forward_block.h"
#include "sm90/forward_entries.h"

namespace tilewise::cuda::sm90 {

/// A consumer: a warpgroup that computes 64 queries of each piece of work. For variants without score functions and
/// dropout.
template <class Config, class Variant>
class Float8Consumer : ForwardEntries<Config, Variant> {
  using Shared = ForwardEntries<Config, Variant>;
  using Shared::arguments_, Shared::variant_;
  using Shared::finish, Shared::first_query, Shared::is_first_lane, Shared::key_empty, Shared::key_full,
      Shared::key_tile, Shared::look_up, Shared::place_of, Shared::query_empty, Shared::query_full, Shared::query_tile,
      Shared::release, Shared::store_directly, Shared::told_full, Shared::value_empty, Shared::value_full,
      Shared::value_tile, Shared::walk_of;
  using Shared::kColumnsQk, Shared::kColumnsV, Shared::kKeyTile, Shared::kQueryStages, Shared::kQueryTile,
      Shared::kStages;
  using typename Shared::Element;
  using typename Shared::Output;
  using typename Shared::Piece;
  using typename Shared::Scores;
  using typename Shared::Stays;
  using typename Shared::Told;
  using Weights = Float8Weights<kKeyTile / 8>;
  using Fragments = LeftFragment[Weights::kSteps];
  using QueryFragments = LeftFragment[kColumnsQk / 16];
  static_assert(kScaleBlock % kKeyTile == 0, "a tile has one scale");
  static_assert(!Variant::kChangesScores && !Config::kHasDropout && !Config::kIsPaged);

 public:
  using Shared::Shared;

  __device__ void run(int consumer) {
    Turn<kStages> turn;
    Piece piece{consumer, 0};
    while (is_told(piece)) {
      if (has_entries(piece)) {
        attend(piece, turn);
      } else {
        pass_by(piece, turn);
        ++piece.number;
      }
    }
    if constexpr (Shared::kStagesOutput) wait_for_copies();
  }

 private:
  /// A tile of which the products are there, or are made.
  struct Tile {
    Visit visit;
    Stays stays;
    float factor, log2_of_value, inverse_of_value;
  };

  __device__ bool is_told(const Piece& piece) const {
    told_full(piece.turn().stage()).wait(piece.turn().parity());
    return uniform(place_of(piece).work.query_tile) >= 0;
  }
  __device__ bool has_entries(const Piece& piece) const {
    return uniform(place_of(piece).walk.count > 0 && first_query(piece) < place_of(piece).shape.queries) != 0;
  }
  __device__ void pass_by(const Piece& piece, Turn<kStages>& turn) const {
    const Turn<kQueryStages> queries = piece.query_turn();
    query_full(queries.stage()).wait(queries.parity());
    query_empty(queries.stage()).arrive_if(is_first_lane());
    const int tiles = place_of(piece).walk.count;
#pragma unroll 1
    for (int i = 0; i < tiles; ++i, turn = turn.plus(1)) pass_tile(turn);
    if (tiles == 0) {
      Output o;
      RowStatistics<1> rows;
      o.clear();
      rows.clear(0, 1 << 30);
      store_directly(piece, threadIdx.x % 128, o, rows);
    }
    release(piece);
  }
  __device__ void pass_tile(const Turn<kStages>& turn) const {
    key_full(turn.stage()).wait(turn.parity());
    key_empty(turn.stage()).arrive_if(is_first_lane());
    value_full(turn.stage()).wait(turn.parity());
    value_empty(turn.stage()).arrive_if(is_first_lane());
  }

  /// Waits for the queries of a piece; afterwards the first products may start.
  __device__ void begin(const Piece& piece, QueryFragments& q) const {
    const Turn<kQueryStages> queries = piece.query_turn();
    query_full(queries.stage()).wait(queries.parity());
    if constexpr (Config::kQueryInRegisters) {
      const int thread = thread_read_anew(), row = 64 * piece.consumer + thread / 32 % 4 * 16 + thread % 16;
#pragma unroll
      for (int k = 0; k < kColumnsQk / 16; ++k) {
        load_matrices(q[k].pairs, query_tile(queries.stage()).at(row, 16 * k + thread / 16 % 2 * 8));
      }
      query_empty(queries.stage()).arrive_if(is_first_lane());
    }
  }
  /// After the last products with queries in shared memory.
  __device__ void release_queries(const Piece& piece, bool is_last) const {
    if constexpr (!Config::kQueryInRegisters) {
      query_empty(piece.query_turn().stage()).arrive_if(is_last && is_first_lane());
    }
  }

  /// s = q k^T of the tile in a stage, started.
  __device__ void start_scores(Scores& s, const QueryFragments& q, const Piece& piece, int stage) const {
    const Operand k = Operand::of(key_tile(stage).address, kKeyTile);
    if constexpr (Config::kQueryInRegisters) {
      multiply_rows<Element, true>(s, q, k, kKeyTile);
    } else {
      const unsigned rows = query_tile(piece.query_turn().stage()).address + piece.consumer * 64 * 128;
      multiply_rows<Element, true, kColumnsQk>(s, Operand::of(rows, kQueryTile), kQueryTile, k, kKeyTile);
    }
    commit_products();
  }
  /// o += weights v of the tile in a stage, started.
  __device__ void start_output(Output& o, const Fragments& weights, int stage) const {
    multiply_rows<Element, false>(o, weights, Operand::of(value_tile(stage).address, kColumnsV), kColumnsV);
    commit_products();
  }

  /// What is to be known of a tile: asked for while its products are under way.
  __device__ void look_at(Tile& tile, const Visit& visit, const Piece& piece) const {
    const Told& place = place_of(piece);
    const Float8Arguments& given = arguments_.float8;
    const long long of_head = static_cast<long long>(place.work.sequence) * given.h_kv + place.work.kv_head;
    const float4 block = __ldg(reinterpret_cast<const float4*>(given.blocks + of_head * given.key_blocks +
                                                               visit.tile() * kKeyTile / kScaleBlock));
    tile.visit = visit;
    tile.factor = block.x * place.query_scales[piece.consumer];
    tile.log2_of_value = block.y;
    tile.inverse_of_value = block.z;
    if (visit.cuts(piece.consumer)) look_up(tile.stays, visit, piece);
  }
  __device__ Visit first_visit(const Piece& piece) const { return {place_of(piece).walk.entry}; }

  /// Products of a cut tile times their factor, -inf for what is removed or does not exist. The factor that is left.
  __device__ static float cut(Scores& s, const Tile& tile) {
#pragma unroll
    for (int i = 0; i < kKeyTile / 2; ++i) {
      float& x = s.x[0][i / 4][i % 4];
      x = tile.stays.keeps(i / 4, i % 4) ? tile.factor * x : -infinity();
    }
    return 1;
  }

  /// Pieces, as long as this consumer has something to compute in each; `piece` becomes the first one of which that is
  /// not known. As ForwardConsumer has it.
  __device__ void attend(Piece& piece, Turn<kStages>& turn) const {
    QueryFragments q;
    Scores s;
    Tile tile;
    begin(piece, q);
    key_full(turn.stage()).wait(turn.parity());
    begin_products();
    start_scores(s, q, piece, turn.stage());
    look_at(tile, first_visit(piece), piece);
    wait_for_products<0>();
    pin(s);
    for (bool goes_on = true; goes_on;) goes_on = attend_one(piece, q, s, tile, turn);
  }

  /// A piece whose first products are there, up to the first products of the next one. Whether there are any. `tile` is
  /// of these products.
  __device__ bool attend_one(Piece& piece, QueryFragments& q, Scores& s, Tile& tile, Turn<kStages>& turn) const {
    const auto walk = walk_of(place_of(piece));
    const int count = uniform(walk.count());
    Output o;
    RowStatistics<1> rows;
    Fragments weights;
    o.clear();
    key_empty(turn.stage()).arrive_if(is_first_lane());
    release_queries(piece, count == 1);
    {
      const float factor = tile.visit.cuts(piece.consumer) ? cut(s, tile) : tile.factor;
      Weights first;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        rows.base[0][half] = float8_base(s, factor, tile.log2_of_value, half);
        rows.sum[0][half] = 0;
      }
      first.make(s, factor, tile.log2_of_value, rows);
      first.add_sums_to(rows, tile.inverse_of_value);
      move(weights, first.fragments);
    }
    unsigned passed = 0;  // tiles between the one whose values are to be read and the next one
    for (int i = 1; i < count; ++i) {
      const Visit visit = walk.visit(i);
      const Turn<kStages> keys = turn.plus(passed + 1);
      if constexpr (Config::kHasLists) {
        // No more at a time than there are stages but one: the values of the tile before are not read yet.
        if (i + 1 < count && passed + 1 < kStages && uniform(visit.misses(piece.consumer)) != 0) {
          pass_tile(keys);
          ++passed;
          continue;
        }
        passed = 0;
      }
      key_full(keys.stage()).wait(keys.parity());
      pin(o);
      begin_products();
      start_scores(s, q, piece, keys.stage());
      value_full(turn.stage()).wait(turn.parity());
      start_output(o, weights, turn.stage());
      const bool is_cut = made_anew(visit.cuts(piece.consumer)) != 0;
      look_at(tile, visit, piece);
      wait_for_products<1>();
      pin(s);
      key_empty(keys.stage()).arrive_if(is_first_lane());
      release_queries(piece, i + 1 == count);
      float factor = tile.factor;
      if (is_cut) factor = cut(s, tile);
      Weights next;
      next.make(s, factor, tile.log2_of_value, rows);
      // The second wait stands behind a branch, as in ForwardConsumer.
      if (next.outgrown()) {
        wait_for_products<0>();
        pin(o);
        rebase_float8(rows, s, factor, tile.log2_of_value, o);
        next = Weights();
        next.make(s, factor, tile.log2_of_value, rows);
      }
      wait_for_products<0>();
      pin(o);
      value_empty(turn.stage()).arrive_if(is_first_lane());
      next.add_sums_to(rows, tile.inverse_of_value);
      move(weights, next.fragments);
      turn = keys;
    }
    const Piece next{piece.consumer, piece.number + 1};
    const bool goes_on = is_told(next) && has_entries(next);
    const Turn<kStages> keys = turn.plus(1);
    if (goes_on) {
      begin(next, q);
      key_full(keys.stage()).wait(keys.parity());
    }
    value_full(turn.stage()).wait(turn.parity());
    pin(o);
    begin_products();
    start_output(o, weights, turn.stage());
    // Where there is no next piece these products have no meaning: under a condition they would cost registers.
    start_scores(s, q, next, keys.stage());
    wait_for_products<1>();
    pin(o);
    value_empty(turn.stage()).arrive_if(is_first_lane());
    finish(piece, o, rows);
    if (goes_on) look_at(tile, first_visit(next), next);
    wait_for_products<0>();
    pin(s);
    turn = keys;
    piece = next;
    return goes_on;
  }

  /// Registers that a product has read are written only here, when none is under way (remark C7513 otherwise).
  __device__ static void move(Fragments& to, const Fragments& from) {
#pragma unroll
    for (int k = 0; k < Weights::kSteps; ++k) {
#pragma unroll
      for (int r = 0; r < 4; ++r) asm volatile("mov.b32 %0, %1;" : "=r"(to[k].pairs[r]) : "r"(from[k].pairs[r]));
    }
  }
};

template <class Config, class Variant>
using Float8Forward = ForwardBlock<Config, Variant, Float8Consumer<Config, Variant>>;

}  // namespace tilewise::cuda::sm90

// Forward attention for compute capability 9.0: docs/kernels/hopper.md draws how it runs.
#pragma once

#include "sm90/forward_block.h"
#include "sm90/forward_entries.h"

namespace tilewise::cuda::sm90 {

/// A consumer: a warpgroup that computes 64 queries of each piece of work.
template <class Config, class Variant>
class ForwardConsumer : ForwardEntries<Config, Variant> {
  using Shared = ForwardEntries<Config, Variant>;
  using Shared::arguments_, Shared::variant_;
  using Shared::complete_tile, Shared::drop, Shared::finish, Shared::first_query, Shared::is_first_lane,
      Shared::kept_of, Shared::key_empty, Shared::key_full, Shared::key_tile, Shared::lane, Shared::lane_of,
      Shared::look_up, Shared::make_exponents, Shared::make_steady, Shared::place_of, Shared::prepare_tile,
      Shared::query_empty, Shared::query_full, Shared::query_tile, Shared::release, Shared::steady_exponents,
      Shared::store_directly, Shared::told, Shared::told_full, Shared::value_empty, Shared::value_full,
      Shared::value_tile, Shared::wait_for_tile, Shared::walk_of;
  using Shared::kColumnsQk, Shared::kKeepsOfTiles, Shared::kKeptStages, Shared::kKeyTile, Shared::kQueryStages,
      Shared::kQueryTile, Shared::kStages, Shared::kSteps;
  using typename Shared::Element;
  using typename Shared::Lane;
  using typename Shared::Output;
  using typename Shared::Piece;
  using typename Shared::Scores;
  using typename Shared::Stays;
  using typename Shared::SteadyExponents;
  using typename Shared::TileWeights;
  using typename Shared::Told;
  using typename Shared::Values;
  using typename Shared::ValueTile;

 public:
  using Shared::Shared;

  __device__ void run(int consumer) {
    Turn<kStages> turn;
    Turn<kKeptStages> kept_turn;
    Piece piece{consumer, 0};
    while (is_told(piece)) {
      if (has_entries(piece)) {
        attend(piece, turn, kept_turn);
      } else {
        pass_by(piece, turn);
        ++piece.number;
      }
    }
    if constexpr (Shared::kStagesOutput) wait_for_copies();
  }

 private:
  /// Tiles that a mask leaves nothing of for this consumer are passed by.
  static constexpr bool kPassesTiles = Config::kHasLists && !kKeepsOfTiles;
  using Fragments = LeftFragment[kSteps];
  using QueryFragments = LeftFragment[kColumnsQk / 16];

  /// Waits until a piece is told. Whether there is one.
  __device__ bool is_told(const Piece& piece) const {
    told_full(piece.turn().stage()).wait(piece.turn().parity());
    return uniform(place_of(piece).work.query_tile) >= 0;
  }
  /// Whether this consumer has anything to compute there.
  __device__ bool has_entries(const Piece& piece) const {
    return uniform(place_of(piece).walk.count > 0 && first_query(piece) < place_of(piece).shape.queries) != 0;
  }
  __device__ void pass_by(const Piece& piece, Turn<kStages>& turn) const {
    const Turn<kQueryStages> queries = piece.query_turn();
    query_full(queries.stage()).wait(queries.parity());
    query_empty(queries.stage()).arrive_if(is_first_lane());
    const int tiles = place_of(piece).walk.count;
#pragma unroll 1
    for (int i = 0; i < tiles; ++i, turn = turn.plus(1)) {
      key_full(turn.stage()).wait(turn.parity());
      key_empty(turn.stage()).arrive_if(is_first_lane());
      value_full(turn.stage()).wait(turn.parity());
      value_empty(turn.stage()).arrive_if(is_first_lane());
    }
    if (tiles == 0) {
      Output o;
      RowStatistics<1> rows;
      o.clear();
      rows.clear(0, 1 << 30);
      store_directly(piece, threadIdx.x % 128, o, rows);
    }
    release(piece);
  }

  /// Waits for the queries of a piece; afterwards the first products may start.
  __device__ void begin(const Piece& piece, QueryFragments& q) const {
    const Turn<kQueryStages> queries = piece.query_turn();
    if constexpr (Values::kKeepsQueries) {
      kept_of(piece.consumer).make_queries(variant_, place_of(piece).variant, piece.parity(), first_query(piece));
      meet(1 + piece.consumer, 128);
    }
    query_full(queries.stage()).wait(queries.parity());
    if constexpr (Config::kQueryInRegisters) {
      load_queries(q, piece);
      query_empty(queries.stage()).arrive_if(is_first_lane());
    }
  }

  __device__ void load_queries(QueryFragments& q, const Piece& piece) const {
    const int thread = thread_read_anew(), row = 64 * piece.consumer + thread / 32 % 4 * 16 + thread % 16;
#pragma unroll
    for (int k = 0; k < kColumnsQk / 16; ++k) {
      load_matrices(q[k].pairs, query_tile(piece.query_turn().stage()).at(row, 16 * k + thread / 16 % 2 * 8));
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
    add_product<Element>(o, weights, Operand::of(value_tile(stage).address, kKeyTile));
    commit_products();
  }

  /// Pieces, as long as this consumer has something to compute in each; `piece` becomes the first one of which that is
  /// not known. While the tensor cores make a tile's products with the queries and then the output of the tile before,
  /// this consumer's exponentials wait for the first of these only. A piece's first products are made while the rows of
  /// the piece before are written.
  __device__ void attend(Piece& piece, Turn<kStages>& turn, Turn<kKeptStages>& kept_turn) const {
    QueryFragments q;
    Scores s;
    Stays stays;
    begin(piece, q);
    prepare_tile(walk_of(place_of(piece)), 0, piece, kept_turn);
    key_full(turn.stage()).wait(turn.parity());
    begin_products();
    start_scores(s, q, piece, turn.stage());
    look_up(stays, first_visit(piece), piece);
    wait_for_products<0>();
    pin(s);
    for (bool goes_on = true; goes_on;) goes_on = attend_one(piece, q, s, stays, turn, kept_turn);
  }

  /// A piece whose first products are there, up to the first products of the next one. Whether there are any. `stays`
  /// is of these products' tiles.
  __device__ bool attend_one(Piece& piece, QueryFragments& q, Scores& s, Stays& stays, Turn<kStages>& turn,
                             Turn<kKeptStages>& kept_turn) const {
    Visit visit = first_visit(piece);
    const auto walk = walk_of(place_of(piece));
    const int count = uniform(walk.count());
    Output o;
    RowStatistics<1> rows;
    Fragments weights;
    o.clear();
    key_empty(turn.stage()).arrive_if(is_first_lane());
    release_queries(piece, count == 1);
    if (count > 1) prepare_tile(walk, 1, piece, kept_turn.plus(1));
    wait_for_tile(piece, kept_turn);
    {
      TileWeights first;
      make_first(first, s, stays, visit, piece, kept_turn, rows);
      first.add_sums_to(rows);
      if constexpr (Config::kHasDropout) drop(first, visit, piece);
      move(weights, first.fragments);
    }
    unsigned passed = 0;  // tiles between the one whose values are to be read and the next one
    for (int i = 1; i < count; ++i) {
      const Visit last = visit;
      visit = walk.visit(i);
      const Turn<kStages> keys = turn.plus(passed + 1);
      if constexpr (kPassesTiles) {
        // No more at a time than there are stages but one: the values of the tile before are not read yet.
        if (i + 1 < count && passed + 1 < kStages && uniform(visit.misses(piece.consumer)) != 0) {
          pass_tile(keys);
          ++passed;
          visit = last;
          continue;
        }
        passed = 0;
      }
      key_full(keys.stage()).wait(keys.parity());
      pin(o);
      begin_products();
      start_scores(s, q, piece, keys.stage());
      value_full(turn.stage()).wait(turn.parity());
      clear_missing_values(last, piece, turn.stage());
      start_output(o, weights, turn.stage());
      kept_turn = kept_turn.plus(1);
      if (i + 1 < count) prepare_tile(walk, i + 1, piece, kept_turn.plus(1));
      // Looked up while products are under way, and not behind the wait for them.
      const bool is_cut = made_anew(visit.cuts(piece.consumer)) != 0;
      if (is_cut) look_up(stays, visit, piece);
      const bool is_steady = kept_of(piece.consumer).is_steady(i) && !is_cut;
      [[maybe_unused]] const SteadyExponents steady =
          steady_exponents(lane_of(visit, piece, kept_turn.stage()), i, piece, rows);
      wait_for_products<1>();
      pin(s);
      key_empty(keys.stage()).arrive_if(is_first_lane());
      release_queries(piece, i + 1 == count);
      // The second wait stands behind a branch, which the assembler does not move it across: in front of it, it would
      // come before the exponentials.
      TileWeights next;
      if constexpr (Variant::kChangesScores) {
        if (!is_steady) wait_for_tile(piece, kept_turn);
        bool is_classical = is_cut;
        if (is_steady) {
          make_steady(next, s, steady, visit, piece, rows);
          is_classical = next.outgrown(rows);
        } else if (!is_classical) {
          const Lane lane = lane_of(visit, piece, kept_turn.stage());
          next.template make_of<Config::kPolynomials>(
              [&](int, int j, int e, float base) {
                return lane.exponent(e / 2 * 8, 8 * j + e % 2, s.x[0][j][e]) - base;
              },
              rows);
          is_classical = next.outgrown(rows);
        }
        if (is_classical) {
          // A lane of its own: what the other one knows need not outlive its weights.
          if (is_steady) wait_for_tile(piece, kept_turn);
          complete_tile(visit, made_anew(i), piece, made_anew(kept_turn.stage()));
          make_exponents(s, stays, visit, piece, made_anew(kept_turn.stage()));
          wait_for_products<0>();
          pin(o);
          rows.rebase(s, 1, o);
          next = TileWeights();
          next.make(s, 1, rows);
        }
      } else {
        float factor = arguments_.scale * kLog2E;
        if (is_cut) {
          make_exponents(s, stays, visit, piece, 0);
          factor = 1;
        }
        next.make(s, factor, rows);
        if (next.outgrown()) {
          wait_for_products<0>();
          pin(o);
          rows.rebase(s, factor, o);
          next = TileWeights();
          next.make(s, factor, rows);
        }
      }
      wait_for_products<0>();
      pin(o);
      value_empty(turn.stage()).arrive_if(is_first_lane());
      next.add_sums_to(rows);
      if constexpr (Config::kHasDropout) drop(next, visit, piece);
      move(weights, next.fragments);
      turn = keys;
    }
    const Piece next{piece.consumer, piece.number + 1};
    const bool goes_on = is_told(next) && has_entries(next);
    const Turn<kStages> keys = turn.plus(1);
    kept_turn = kept_turn.plus(1);
    if (goes_on) {
      begin(next, q);
      prepare_tile(walk_of(place_of(next)), 0, next, kept_turn);
      key_full(keys.stage()).wait(keys.parity());
    }
    value_full(turn.stage()).wait(turn.parity());
    clear_missing_values(visit, piece, turn.stage());
    pin(o);
    begin_products();
    start_output(o, weights, turn.stage());
    // Where there is no next piece these products have no meaning: under a condition they would cost registers.
    start_scores(s, q, next, keys.stage());
    wait_for_products<1>();
    pin(o);
    value_empty(turn.stage()).arrive_if(is_first_lane());
    finish(piece, o, rows);
    if (goes_on) look_up(stays, first_visit(next), next);
    wait_for_products<0>();
    pin(s);
    turn = keys;
    piece = next;
    return goes_on;
  }

  __device__ Visit first_visit(const Piece& piece) const { return {place_of(piece).walk.entry}; }

  /// A piece's first weights, which give rows their bases.
  __device__ void make_first(TileWeights& weights, Scores& s, const Stays& stays, const Visit& visit,
                             const Piece& piece, Turn<kKeptStages> kept_turn, RowStatistics<1>& rows) const {
    float factor = arguments_.scale * kLog2E;
    if (Variant::kChangesScores || visit.cuts(piece.consumer)) {
      complete_tile(visit, 0, piece, kept_turn.stage());
      make_exponents(s, stays, visit, piece, made_anew(kept_turn.stage()));
      factor = 1;
    }
    rows.begin_at(s, factor);
    weights.make(s, factor, rows);
  }

  /// Registers that a product has read are written only here, when none is under way: otherwise the assembler waits for
  /// each product by itself (its remark C7513). Plain copies it would merge.
  __device__ static void move(Fragments& to, const LeftFragment (&from)[kSteps][1]) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int r = 0; r < 4; ++r) asm volatile("mov.b32 %0, %1;" : "=r"(to[k].pairs[r]) : "r"(from[k][0].pairs[r]));
    }
  }

  /// Lets go of a tile that has nothing for this consumer.
  __device__ void pass_tile(const Turn<kStages>& turn) const {
    key_full(turn.stage()).wait(turn.parity());
    key_empty(turn.stage()).arrive_if(is_first_lane());
    value_full(turn.stage()).wait(turn.parity());
    value_empty(turn.stage()).arrive_if(is_first_lane());
  }

  /// Where a tile reaches over the ends of its sequence, its values may be another's, or NaN: zeros for them. Every
  /// consumer does so by itself.
  __device__ void clear_missing_values(const Visit& visit, const Piece& piece, int stage) const {
    if (!visit.is_partial()) return;
    const Told& place = place_of(piece);
    const int first = visit.tile() * kKeyTile;
    if (first >= place.shape.key_start && first + kKeyTile <= place.shape.keys) return;
    const ValueTile tile = value_tile(stage);
    for (int row = threadIdx.x % 128 / 8; row < kKeyTile; row += 16) {
      if (first + row >= place.shape.key_start && first + row < place.shape.keys) continue;
      for (int chunk = 0; chunk < ValueTile::kChunks; ++chunk) {
        store_zeros(tile.at(row, 64 * chunk + threadIdx.x % 8 * 8));
      }
    }
    publish_writes();
    meet(1 + piece.consumer, 128);
  }
};

template <class Config, class Variant>
using Forward = ForwardBlock<Config, Variant, ForwardConsumer<Config, Variant>>;

}  // namespace tilewise::cuda::sm90

// Forward attention for compute capability 9.0: docs/kernels/hopper.md draws how it runs.
#pragma once

#include "sm90/forward_block.h"
#include "sm90/forward_steps.h"

namespace tilewise::cuda::sm90 {

/// A consumer: a warpgroup that computes 64 queries of each piece of work.
template <class Config, class Variant>
class ForwardConsumer : ForwardSteps<Config, Variant> {
  using Shared = ForwardSteps<Config, Variant>;
  using Shared::await_visit, Shared::begin, Shared::close_rows, Shared::complete_tile, Shared::drop, Shared::finish,
      Shared::first_visit, Shared::has_entries, Shared::has_own_bases, Shared::is_first_lane, Shared::is_told,
      Shared::key_empty, Shared::key_full, Shared::lane_of, Shared::look_up, Shared::make_exponents,
      Shared::make_scored, Shared::make_small, Shared::make_steady, Shared::may_attend, Shared::may_pass, Shared::move,
      Shared::pass_tiles, Shared::pass_turn, Shared::passes, Shared::place_of, Shared::release_queries,
      Shared::start_piece, Shared::start_scores, Shared::steady_exponents, Shared::take_own_bases, Shared::take_steady,
      Shared::take_turn, Shared::take_visit, Shared::uniform_of, Shared::value_empty, Shared::value_full,
      Shared::value_tile, Shared::wait_for_kept, Shared::walk_of;
  using Shared::call_;
  using Shared::kKeepsOfTiles, Shared::kKeyTile, Shared::kLargestSum, Shared::kReckonsAhead, Shared::kRoom,
      Shared::kStages, Shared::kSteps, Shared::kTellsLists;
  using typename Shared::Element;
  using typename Shared::Lane;
  using typename Shared::Output;
  using typename Shared::Piece;
  using typename Shared::QueryFragments;
  using typename Shared::Scores;
  using typename Shared::Stays;
  using typename Shared::SteadyExponents;
  using typename Shared::SteadyRun;
  using typename Shared::TileWeights;
  using typename Shared::Told;
  using typename Shared::ValueTile;

 public:
  using Shared::Shared;

  __device__ void run(int consumer) {
    this->attend_all(consumer, [&](Piece& piece, Turn<kStages>& turn) { attend(piece, turn); });
  }

 private:
  /// Tiles that a mask leaves nothing of for this consumer are passed by.
  static constexpr bool kPassesTiles = Config::kHasLists && !kKeepsOfTiles;
  using Fragments = LeftFragment[kSteps];
  /// Whether the next tile's keys are waited for, and its visit is asked for, ahead of a step's end. Of 256 columns
  /// that spills, as it does where there are dropout and no lists; of 192 a causal mask takes 1.03 of the time by it.
  static constexpr bool kAsksAhead =
      (kTellsLists || !(Config::kHasLists || Variant::kChangesScores || Config::kHasDropout)) &&
      Config::kHeadQk <= 128 && Config::kHeadV <= 128;

  /// o += weights v of the tile in a stage, started.
  __device__ void start_output(Output& o, const Fragments& weights, int stage) const {
    add_product<Element>(o, weights, Operand::of(value_tile(stage).address, kKeyTile));
    commit_products();
  }

  /// Pieces, as long as this consumer has something to compute in each; `piece` becomes the first one of which that is
  /// not known. While the tensor cores make a tile's products with the queries and then the output of the tile before,
  /// this consumer's exponentials wait for the first of these only. A piece's first products are made while the rows of
  /// the piece before are written.
  __device__ void attend(Piece& piece, Turn<kStages>& turn) const {
    QueryFragments q;
    Scores s;
    Stays stays;
    start_piece(s, q, piece, turn);
    look_up(stays, first_visit(piece), piece);
    wait_for_products<0>();
    pin(s);
    for (bool goes_on = true; goes_on;) goes_on = attend_one(piece, q, s, stays, turn);
  }

  /// A piece whose first products are there, up to the first products of the next one. Whether there are any. `stays`
  /// is of these products' tiles.
  __device__ bool attend_one(Piece& piece, QueryFragments& q, Scores& s, Stays& stays, Turn<kStages>& turn) const {
    Visit visit = first_visit(piece);
    const auto walk = walk_of(place_of(piece));
    const int count = uniform(walk.count());
    Output o;
    RowStatistics<1> rows;
    Fragments weights;
    [[maybe_unused]] Visit coming;  // of the next tile, where it is reckoned or, its keys having come, asked for ahead
    [[maybe_unused]] bool passes_next = false;
    o.clear();
    key_empty(turn.stage()).arrive_if(is_first_lane());
    release_queries(piece, count == 1);
    [[maybe_unused]] const auto of_head = uniform_of(piece);
    wait_for_kept(turn.count);
    [[maybe_unused]] bool are_own = false;  // rows' bases, their queries'
    {
      TileWeights first;
      make_first(first, s, stays, visit, piece, turn.count, rows, are_own);
      first.add_sums_to(rows);
      if constexpr (Config::kHasDropout) drop(first, visit, piece);
      if constexpr (kAsksAhead) {
        coming = visit;
        if (count > 1) await_visit(coming, turn.plus(1));
        passes_next = may_pass(coming, piece, 2 < count);
      }
      move(weights, first.fragments);
    }
    bool are_small = true;  // all products of this warp up to now
    SteadyRun run;
    const auto reckon = [&](int i) { return Visit{int(made_anew(walk.visit(::min(i, count - 1)).entry))}; };
    if constexpr (kReckonsAhead) coming = reckon(1);
    unsigned passed = 0;  // tiles between the one whose values are to be read and the next one
    for (int i = 1; i < count; ++i) {
      const Visit last = visit;
      Turn<kStages> keys = turn.plus(passed + 1);
      if constexpr (kAsksAhead) {
        visit = kTellsLists ? coming : walk.visit(i);
        if (passes_next) visit = pass_tiles(piece, i, count, keys);
      } else {
        if constexpr (kTellsLists) {
          await_visit(visit, keys);
        } else {
          visit = kReckonsAhead ? coming : walk.visit(i);
        }
        if constexpr (kPassesTiles) {
          if (passes(visit, piece, i + 1 < count, keys, passed)) {
            visit = last;
            continue;
          }
        }
        if constexpr (!kTellsLists) key_full(keys.stage()).wait(keys.parity());
      }
      take_turn(piece);
      pin(o);
      begin_products();
      start_scores(s, q, piece, keys.stage());
      value_full(turn.stage()).wait(turn.parity());
      clear_missing_values(last, piece, turn.stage());
      start_output(o, weights, turn.stage());
      // Looked up while products are under way, and not behind the wait for them.
      const bool is_cut = made_anew(visit.cuts(piece.part())) != 0;
      if (is_cut) look_up(stays, visit, piece);
      const bool has_one_value = take_steady(run, keys.count) && !is_cut;
      [[maybe_unused]] const SteadyExponents steady =
          steady_exponents(lane_of(visit, piece, keys.count, of_head), run.value, rows);
      if constexpr (kReckonsAhead) coming = reckon(i + 1);
      wait_for_products<1>();
      pass_turn(piece);
      pin(s);
      key_empty(keys.stage()).arrive_if(is_first_lane());
      release_queries(piece, i + 1 == count);
      // The second wait stands behind a branch, which the assembler does not move it across: in front of it, it would
      // come before the exponentials.
      TileWeights next;
      if constexpr (Variant::kChangesScores) {
        bool is_classical = is_cut;
        if (has_one_value) {
          make_steady(next, s, steady, visit, piece, rows);
          is_classical = next.outgrown(rows, kLargestSum);
        } else if (!is_classical) {
          const Lane lane = lane_of(visit, piece, keys.count, of_head);
          if (Variant::kMayBeSmall && are_small) {
            are_small = are_own ? make_small<true>(next, s, lane, rows) : make_small<false>(next, s, lane, rows);
            is_classical = !are_small || next.outgrown(rows, kLargestSum);
          } else {
            are_own ? make_scored<true>(next, s, lane, rows) : make_scored<false>(next, s, lane, rows);
            is_classical = next.outgrown(rows, kLargestSum);
          }
        }
        if (is_classical) {
          // A lane of its own: what the other one knows need not outlive its weights.
          complete_tile(visit, piece, made_anew(keys.count));
          make_exponents(s, stays, visit, piece, made_anew(keys.count));
          wait_for_products<0>();
          pin(o);
          rows.rebase(s, 1, o, kRoom);
          are_own = are_own && has_own_bases(lane_of(visit, piece, made_anew(keys.count)), rows);
          next = TileWeights();
          next.make(s, 1, rows);
        }
      } else {
        const float factor = call_.factor;
        if (is_cut) make_exponents(s, stays, visit, piece, 0);
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
      // The next tile's visit is on its way while weights are moved: behind that, keys and visit took 190 cycles of a
      // window's step that stood in front of the products.
      const Turn<kStages> following = keys.plus(1);
      [[maybe_unused]] bool have_come = false;
      if constexpr (kAsksAhead) {
        have_come = key_full(following.stage()).has_completed(following.parity());
        take_visit(coming, following);
      }
      move(weights, next.fragments);
      if constexpr (kAsksAhead) {
        if (!have_come && i + 1 < count) await_visit(coming, following);
        passes_next = may_pass(coming, piece, i + 2 < count);
      }
      turn = keys;
    }
    const Piece next{piece.consumer, piece.number + 1};
    const auto start_last = [&] {
      value_full(turn.stage()).wait(turn.parity());
      clear_missing_values(visit, piece, turn.stage());
      take_turn(piece);
      pin(o);
      begin_products();
      start_output(o, weights, turn.stage());
    };
    if constexpr (kTellsLists) start_last();
    const bool goes_on = Variant::kChangesScores ? is_told(next) && has_entries(next) : may_attend(next);
    const Turn<kStages> keys = turn.plus(1);
    if (goes_on) begin(next, q, keys);
    if constexpr (kTellsLists) {
      begin_products();
    } else {
      start_last();
    }
    // Where there is no next piece these products have no meaning: under a condition they would cost registers.
    start_scores(s, q, next, keys.stage());
    if constexpr (kTellsLists) {
      // All that does not need these products is done while they are made.
      // Where masks follow diagonals by no branch, which the products could not be started beside: without a next piece
      // it is asked about this one.
      const Piece asked{piece.consumer, goes_on || !Variant::kFollowsDiagonals ? next.number : piece.number};
      if (goes_on || Variant::kFollowsDiagonals) look_up(stays, first_visit(asked), asked);
      const auto multipliers = close_rows(piece, thread_read_anew() % 128, rows);
      wait_for_products<1>();
      pass_turn(piece);
      pin(o);
      value_empty(turn.stage()).arrive_if(is_first_lane());
      finish(piece, o, multipliers);
    } else {
      wait_for_products<1>();
      pass_turn(piece);
      pin(o);
      value_empty(turn.stage()).arrive_if(is_first_lane());
      finish(piece, o, rows);
      if (goes_on) look_up(stays, first_visit(next), next);
    }
    wait_for_products<0>();
    pin(s);
    turn = keys;
    piece = next;
    return goes_on;
  }

  /// A piece's first weights, which give rows their bases.
  __device__ void make_first(TileWeights& weights, Scores& s, const Stays& stays, const Visit& visit,
                             const Piece& piece, unsigned tile, RowStatistics<1>& rows, bool& are_own) const {
    const float factor = Variant::kChangesScores ? 1 : call_.factor;
    if (Variant::kChangesScores || visit.cuts(piece.part())) {
      complete_tile(visit, piece, tile);
      make_exponents(s, stays, visit, piece, made_anew(tile));
    }
    // Without lists it changes the order of the loop's exponentials, and d 64 takes 1.06 to 1.08 of the time.
    if constexpr (kTellsLists) {
      rows.begin_at_extreme(s, factor);
    } else {
      rows.begin_at(s, factor);
    }
    if constexpr (Variant::kChangesScores) are_own = take_own_bases(lane_of(visit, piece, made_anew(tile)), rows);
    weights.make(s, factor, rows);
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

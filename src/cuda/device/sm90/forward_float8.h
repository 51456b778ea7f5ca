// Forward attention of float8_e4m3 for compute capability 9.0: docs/kernels/hopper.md draws how it runs, as that of
// 16-bit elements, with whose kernel it shares all but the consumers' steps.
#pragma once

#include "sm90/float8_values.h"
#include "sm90/float8_weights.h"
#include "sm90/forward_block.h"
#include "sm90/forward_steps.h"

namespace tilewise::cuda::sm90 {

/// A consumer: a warpgroup that computes 64 queries of each piece of work. For variants without score functions and
/// dropout.
template <class Config, class Variant>
class Float8Consumer : ForwardSteps<Config, Variant> {
  using Shared = ForwardSteps<Config, Variant>;
  using Shared::arguments_;
  using Shared::begin, Shared::finish, Shared::first_visit, Shared::has_entries, Shared::is_first_lane, Shared::is_told,
      Shared::key_empty, Shared::key_full, Shared::look_up, Shared::move, Shared::passes, Shared::place_of,
      Shared::release_queries, Shared::start_piece, Shared::start_scores, Shared::value_empty, Shared::value_full,
      Shared::value_tile, Shared::walk_of;
  using Shared::kColumnsV, Shared::kKeyTile, Shared::kStages;
  using typename Shared::Element;
  using typename Shared::Output;
  using typename Shared::Piece;
  using typename Shared::QueryFragments;
  using typename Shared::Scores;
  using typename Shared::Stays;
  using typename Shared::Told;
  using Weights = Float8Weights<kKeyTile / 8>;
  using Fragments = LeftFragment[Weights::kSteps];
  static_assert(kScaleBlock % kKeyTile == 0, "a tile has one scale");
  static_assert(!Variant::kChangesScores && !Config::kHasDropout && !Config::kIsPaged);

 public:
  using Shared::Shared;

  __device__ void run(int consumer) {
    this->attend_all(consumer, [&](Piece& piece, Turn<kStages>& turn) { attend(piece, turn); });
  }

 private:
  /// Whether steps take turns at two blocks of registers for weights: those that a product reads are not written while
  /// any is under way (move), and else each step would end with 16 copies. Beyond 128 columns the assembler has too few
  /// registers for it (C7512). With lists it took 0.98 and 1.01 of the time at d 128, 1.025 at d 64.
  static constexpr bool kAlternates = !Config::kHasLists && kColumnsV <= 128;

  /// A tile of which the products are there, or are made.
  struct Tile {
    Visit visit;
    Stays stays;
    float factor, log2_of_value, inverse_of_value;
  };

  /// o += weights v of the tile in a stage, started.
  __device__ void start_output(Output& o, const Fragments& weights, int stage) const {
    const Operand first_stage = Operand::of(value_tile(0).address, kColumnsV);
    multiply_rows<Element, false>(o, weights, first_stage.plus(stage * Shared::ValueTile::kBytes), kColumnsV);
    commit_products();
  }

  /// Weights to where a product reads them; kMoves: which another one has read them from.
  template <bool kMoves>
  __device__ static void hand_on(Fragments& to, const Fragments& from) {
#pragma unroll
    for (int k = 0; k < Weights::kSteps; ++k) {
      if constexpr (kMoves) {
        move(to[k], from[k]);
      } else {
        to[k] = from[k];
      }
    }
  }

  /// The scales of a tile's keys and values, asked for well before they are needed.
  __device__ float4 ask_scales(const Visit& visit, int first_block) const {
    return __ldg(reinterpret_cast<const float4*>(arguments_.float8.blocks) + first_block +
                 visit.tile() * kKeyTile / kScaleBlock);
  }
  /// The number of a piece's first block of keys, among those of all heads.
  __device__ int first_block_of(const Piece& piece) const {
    const Work& work = place_of(piece).work;
    return (work.sequence * arguments_.float8.h_kv + work.kv_head) * arguments_.float8.key_blocks;
  }
  __device__ void look_at(Tile& tile, const Visit& visit, const float4& scales, const Piece& piece) const {
    tile.visit = visit;
    tile.factor = scales.x * place_of(piece).query_scales[piece.consumer];
    tile.log2_of_value = scales.y;
    tile.inverse_of_value = scales.z;
    if (visit.cuts(piece.consumer)) look_up(tile.stays, visit, piece);
  }
  __device__ void look_at_first(Tile& tile, const Piece& piece) const {
    const Visit visit = first_visit(piece);
    look_at(tile, visit, ask_scales(visit, first_block_of(piece)), piece);
  }

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
    start_piece(s, q, piece, turn);
    look_at_first(tile, piece);
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
    // The scales of the tile that comes next are asked for before the weights of the one before are made: asked for
    // with the products, they came later than those. What a list says of it is asked for a tile earlier still, since
    // that is where its scales lie.
    const int first_block = first_block_of(piece);
    Visit visit = walk.visit(::min(1, count - 1)), after = walk.visit(::min(2, count - 1));
    float4 scales = ask_scales(visit, first_block);
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
      hand_on<true>(weights, first.fragments);
    }
    unsigned passed = 0;  // tiles between the one whose values are to be read and the next one
    // Tile i's weights, to `made`, beside o += those of the tile before, `last`.
    const auto step = [&](int i, const Fragments& last, Fragments& made) {
      const Turn<kStages> keys = turn.plus(passed + 1);
      if constexpr (Config::kHasLists) {
        if (passes(visit, piece, i + 1 < count, keys, passed)) {
          visit = after;
          after = walk.visit(::min(i + 2, count - 1));
          scales = ask_scales(visit, first_block);
          return;
        }
      }
      key_full(keys.stage()).wait(keys.parity());
      pin(o);
      begin_products();
      start_scores(s, q, piece, keys.stage());
      value_full(turn.stage()).wait(turn.parity());
      start_output(o, last, turn.stage());
      const bool is_cut = made_anew(visit.cuts(piece.consumer)) != 0;
      look_at(tile, visit, scales, piece);
      visit = after;
      after = walk.visit(::min(i + 2, count - 1));
      wait_for_products<1>();
      pin(s);
      key_empty(keys.stage()).arrive_if(is_first_lane());
      release_queries(piece, i + 1 == count);
      scales = ask_scales(visit, first_block);
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
      hand_on<!kAlternates>(made, next.fragments);
      turn = keys;
    };
    if constexpr (kAlternates) {
      Fragments others;
      for (int i = 1; i < count;) {
        step(i++, weights, others);
        if (i == count) {
          hand_on<true>(weights, others);
        } else {
          step(i++, others, weights);
        }
      }
    } else {
      for (int i = 1; i < count; ++i) step(i, weights, weights);
    }
    const Piece next{piece.consumer, piece.number + 1};
    const bool goes_on = is_told(next) && has_entries(next);
    const Turn<kStages> keys = turn.plus(1);
    if (goes_on) begin(next, q, keys);
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
    if (goes_on) look_at_first(tile, next);
    wait_for_products<0>();
    pin(s);
    turn = keys;
    piece = next;
    return goes_on;
  }
};

template <class Config, class Variant>
using Float8Forward = ForwardBlock<Config, Variant, Float8Consumer<Config, Variant>>;

}  // namespace tilewise::cuda::sm90

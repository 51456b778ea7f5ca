// Forward attention: o = softmax(variant(scale * q k^T)) v and lse, a row of query tiles to a block.
#pragma once

#include "block_barrier.h"
#include "forward_rows.h"
#include "philox.h"
#include "walk.h"

namespace tilewise::cuda {

/// One (sequence, head, query tile), which a block of threads computes.
///
/// Config has
///   Element                      of q, k, v and o
///   kHeadQk, kHeadV              d_qk, d_v
///   kWarps, kRowBlocks           a warp has kRowBlocks * 16 queries
///   kKeyTile, kStages            keys of a tile, and how many tiles of k and v are in shared memory
///   kQueryInRegisters            q stays in registers; otherwise it is read from shared memory for each tile
///   kHasLists, kHasDropout, kHasMaxScore, kAligned
template <class Config, class Variant>
class Forward : ForwardRows<Config, Variant> {
  using Products = ForwardProducts<Config>;
  using Rows = ForwardRows<Config, Variant>;
  using Products::add_weights_times_values, Products::first_row, Products::key_tile, Products::lane,
      Products::load_queries_to_registers, Products::multiply_queries_by_keys, Products::query_tile,
      Products::value_tile;
  using Products::kHasBarriers, Products::kProductSteps;
  using Rows::arguments_, Rows::largest_, Rows::o_, Rows::query_begin_, Rows::rows_, Rows::sequence_, Rows::shape_,
      Rows::variant_;
  using Rows::finish, Rows::first_kept, Rows::first_query, Rows::head, Rows::is_in_parts, Rows::lane_query,
      Rows::query_rows, Rows::row_of_block, Rows::rows_of, Rows::taken_row, Rows::values;
  using Rows::kReadsQueryAgain;
  using typename Products::KeyTile;
  using typename Products::QueryTile;
  using typename Products::Scores;
  using typename Products::TileWeights;
  using typename Products::ValueTile;
  using typename Rows::Values;

 public:
  using Products::kPartQueries, Products::kQueryTile, Products::kSharedBytes, Products::kThreads;
  using typename Products::Element;

  __device__ Forward(const ForwardArguments& arguments, const typename Variant::Arguments& variant, unsigned shared)
      : Forward(arguments, variant, shared, row_of_block(arguments.lists)) {}

  __device__ void run() {
    const RowPart taken = row_of_block(arguments_.lists);
    if constexpr (!kReadsQueryAgain) {
      if (threadIdx.x == 0) taken_row() = taken;
    }
    RowStart row{taken.place, -1, 0, 0};
    if (Config::kHasLists && arguments_.lists.order != nullptr) {
      row = row_start(arguments_.lists, sequence_, taken.head, taken.place);
    }
    query_begin_ = (Config::kHasLists ? of_warp(row.row) : row.row) * kQueryTile;
    if (query_begin_ >= shape_.queries) return;
    if constexpr (kReadsQueryAgain) {
      if (threadIdx.x == 0) taken_row() = {taken, query_begin_};
    }
    values().prepare(variant_,
                     Variant::place_of(variant_, shape_, sequence_, taken.head, taken.head / arguments_.heads_per_kv,
                                       arguments_.scale),
                     first_query());
    start_loading_queries(taken.head);
    if constexpr (Config::kHasLists) part_ = of_warp(first_row() / kPartQueries);
    if constexpr (Config::kHasLists) {
      const TileLists& lists = arguments_.lists;
      const long long list = list_of(lists, sequence_, taken.head, row.row);
      const ListWalk whole(lists, list, row.count >= 0 ? row.count : lists.count[list]);
      const bool in_parts = is_in_parts(taken);
      ListWalk walked = in_parts ? whole.part(taken.part, lists.parts) : whole;
      walked.listed = of_warp(walked.listed);
      walk(led(walked, of_warp(in_parts ? 0 : row.index)));
    } else {
      const DenseWalk whole(shape_, Config::kKeyTile);
      walk(led(
          whole,
          WalkStart::near(whole, tile_of_own_position(shape_, query_begin_ + kQueryTile / 2, Config::kKeyTile)).index));
    }
    give_line_back();
    finish();
  }

 private:
  __device__ Forward(const ForwardArguments& arguments, const typename Variant::Arguments& variant, unsigned shared,
                     const RowPart& row)
      : Rows(arguments, variant, shared),
        keys_(key_loader<KeyLoader>(arguments.k, row.head)),
        values_(key_loader<ValueLoader>(arguments.v, row.head)) {}

  /// Where scores are biased by distance they are largest near the queries' own positions: rows whose bases are found
  /// there seldom outgrow them. Of lists the first tiles are those in which queries meet their own positions, so that
  /// every row of most masks has a base from then on.
  static constexpr int kLead = Config::kHasLists ? (kQueryTile + Config::kKeyTile - 1) / Config::kKeyTile : 1;
  template <class Walk>
  __device__ static auto led(const Walk& walk, int start) {
    if constexpr (Values::kHasDiagonals) {
      return LedWalk<Walk, kLead>{walk, start};
    } else {
      return walk;
    }
  }

  using QueryLoader = TileLoader<QueryTile, kThreads, Config::kHeadQk, Config::kAligned, Element>;
  template <class Tile, int kColumns>
  using LoaderOfKeys = Conditional<Config::kPaged, PagedLoader<Tile, kThreads, kColumns, Config::kAligned, Element>,
                                   TileLoader<Tile, kThreads, kColumns, Config::kAligned, Element>>;
  using KeyLoader = LoaderOfKeys<KeyTile, Config::kHeadQk>;
  using ValueLoader = LoaderOfKeys<ValueTile, Config::kHeadV>;

  template <class Loader>
  __device__ Loader key_loader(const TensorView& view, int head) const {
    if constexpr (Config::kPaged) {
      const PageTable& pages = arguments_.pages;
      return Loader(static_cast<const Element*>(view.data) + head / arguments_.heads_per_kv * view.head,
                    {pages, pages.table + sequence_ * pages.sequence, view.batch, view.row});
    } else {
      return Loader(key_rows(view, head));
    }
  }

  __device__ GlobalRows<Element> key_rows(const TensorView& view, int head) const {
    return rows_of(view, head / arguments_.heads_per_kv, arguments_.keys_packed ? shape_.key_token : 0,
                   shape_.key_start, shape_.keys);
  }
  __device__ void start_loading_queries(int head) {
    const bool whole = query_begin_ + kQueryTile <= shape_.queries;
    QueryLoader(query_rows(arguments_.q, head)).start(query_tile(), query_begin_, whole, 0, shape_.queries);
  }

  __device__ void start_loading(const Visit& visit, int stage) {
    const int first = visit.tile() * Config::kKeyTile;
    // Of lists most cut tiles have all of their keys. Asked for here alone: otherwise every tile waits for the answer.
    bool whole = !visit.is_partial();
    int begin = first, end = first + Config::kKeyTile;
    if (Config::kHasLists && !whole) {
      begin = read_here(&shape_.key_start), end = read_here(&shape_.keys);
      whole = first >= begin && first + Config::kKeyTile <= end;
    } else if constexpr (!Config::kHasLists) {
      begin = shape_.key_start, end = shape_.keys;
    }
    keys_.start(key_tile(stage), first, whole, begin, end);
    values_.start(value_tile(stage), first, whole, begin, end);
  }

  /// Visits all key tiles, while the ones after them are on their way. The products of a tile with the queries are made
  /// one visit ahead, together with the exponentials of the tile at hand, which then do not keep tensor cores waiting.
  template <class Walk>
  __device__ void walk(const Walk& tiles) {
    static_assert(Config::kStages >= 2 && Config::kStages <= 4,
                  "one tile at hand, one for the products, one on its way, and one that some warps may still read");
    const int count = tiles.count();
    o_.clear();
    rows_.clear(lane_query(), shape_.queries);
    if (count == 0) return __syncthreads();  // finish() reads what thread 0 has told of the row
    if constexpr (kHasBarriers) return walk_apart(tiles, count);
    Visit visit = tiles.visit(0, tiles.read(0)), next = visit;
    start_loading(visit, 0);
    commit_copies();
    if (count > 1) start_loading(next = tiles.visit(1, tiles.read(1)), 1);
    commit_copies();
    Visit last = tiles.visit(2, tiles.read(::min(2, count - 1)));
    wait_for_copies<1>();
    __syncthreads();
    begin_values(tiles, visit);
    load_queries_to_registers();
    Scores s;
    if (!is_empty(visit)) multiply_queries_by_keys(s, 0, [](int) {});
    for (int i = 0, stage = 0; i < count; ++i) {
      constexpr int kLast = Config::kStages - 1;
      const int next_stage = stage == kLast ? 0 : stage + 1, last_stage = next_stage == kLast ? 0 : next_stage + 1;
      const int ahead = tiles.read(::min(i + 3, count - 1));  // while others are waited for
      wait_for_copies<0>();
      __syncthreads();  // the next tile is here for all threads, and all are done with the one before
      const Lines lines = lines_of(tiles, i);
      const auto load_last = [&] {
        if (i + 2 < count) start_loading(last, last_stage);
        commit_copies();
      };
      if constexpr (Config::kStages == 3) load_last();
      const Visit after = tiles.visit(i + 3, ahead);  // known a visit before its copies begin, which nothing keeps back
      visit_tile(s, tiles, i, visit, next, lines, stage, i + 1 < count ? next_stage : kNone);
      if constexpr (Config::kStages == 2) {
        __syncthreads();  // all are done with this tile, whose place the last one takes
        load_last();
      }
      visit = next;
      next = last;
      last = after;
      stage = next_stage;
    }
  }

  // Where nothing is kept for tiles, warps may be a visit apart.
  //   loaded(stage)  a tile is in shared memory
  //   read(stage)    all warps are done with it
  __device__ BlockBarrier loaded(int stage) const { return {this->shared_ + Products::kTileBytes + 8 * stage}; }
  __device__ BlockBarrier read(int stage) const { return loaded(Config::kStages + stage); }
  __device__ void load_visit(const Visit& visit, int number) {
    const int stage = number % Config::kStages;
    start_loading(visit, stage);
    loaded(stage).arrive_after_copies();
    loaded(stage).arrive_as_warp();  // for what was stored without copies
  }

  template <class Walk>
  __device__ void walk_apart(const Walk& tiles, int count) {
    static_assert(!kHasBarriers || (!Values::kHasDiagonals && !kTakesLines));
    constexpr int kStages = Config::kStages;
    if (threadIdx.x == 0) {
#pragma unroll
      for (int stage = 0; stage < kStages; ++stage) {
        loaded(stage).create(Products::kThreads + Config::kWarps);
        read(stage).create(Config::kWarps);
      }
    }
    __syncthreads();
    Visit visit = tiles.visit(0, tiles.read(0)), next = visit;
    load_visit(visit, 0);
    if (count > 1) load_visit(next = tiles.visit(1, tiles.read(1)), 1);
    Visit last = tiles.visit(2, tiles.read(::min(2, count - 1)));
    loaded(0).wait(0);
    load_queries_to_registers();
    Scores s;
    if (!is_empty(visit)) multiply_queries_by_keys(s, 0, [](int) {});
    for (int i = 0; i < count; ++i) {
      const int ahead = tiles.read(::min(i + 3, count - 1));  // while others are waited for
      if (i + 2 < count) {
        if (i >= 2) read((i + 2) % kStages).wait((i - 2) / kStages % 2);
        load_visit(last, i + 2);
      }
      const Visit after = tiles.visit(i + 3, ahead);  // known a visit before its copies begin, which nothing keeps back
      if (i + 1 < count) loaded((i + 1) % kStages).wait((i + 1) / kStages % 2);
      visit_tile(s, tiles, i, visit, next, Lines{}, i % kStages, i + 1 < count ? (i + 1) % kStages : kNone);
      read(i % kStages).arrive_as_warp();
      visit = next;
      next = last;
      last = after;
    }
  }

  /// What the variant keeps for the first visit of a walk.
  template <class Walk>
  __device__ void begin_values(const Walk& tiles, const Visit& first) {
    if constexpr (kTakesLines) lines_ = values().look_ahead(tiles, 0, variant_, first_query());
    typename Values::Made made;
    make_values(made, first);
    keep_values(made, first, 0);
  }
  /// Likewise for a visit, whose number keep_values() is told.
  __device__ void make_values(typename Values::Made& made, const Visit& visit) const {
    values().make_tile(made, variant_, first_query(), visit.tile() * Config::kKeyTile);
  }
  /// Tiles whose diagonals lie on a line. Where the largest score is asked for, scores are made of all entries.
  static constexpr bool kTakesLines = Values::kKnowsLines && !Config::kHasMaxScore;
  struct Lines {
    TileLine at_hand;
    bool has_this;  // whether the tile at hand is on one
    bool goes_on;   // and that is the one of the tile before
    bool has_next;  // whether the next tile is on one
  };
  /// Read while copies are on their way, so that nothing waits for it.
  template <class Walk>
  __device__ Lines lines_of(const Walk& tiles, int index) {
    if constexpr (kTakesLines) {
      const TileLine at_hand = values().line(index);
      const unsigned bit = 1u << (index % Values::kAhead);
      const bool has_this = (lines_.are & bit) != 0, goes_on = (lines_.go_on & bit) != 0;
      if ((index + 1) % Values::kAhead == 0) lines_ = values().look_ahead(tiles, index + 1, variant_, first_query());
      return {at_hand, has_this, goes_on, (lines_.are >> ((index + 1) % Values::kAhead) & 1) != 0};
    } else {
      return {};
    }
  }
  __device__ void keep_values(const typename Values::Made& made, const Visit& visit, int number) const {
    values().keep_tile(made, variant_, first_query(), visit.tile() * Config::kKeyTile, number % 2);
  }

  /// Whether a mask leaves nothing of the warp's rows of a tile, or may remove some of it. By votes, so that the
  /// compiler sees that branches on them are the whole warp's.
  __device__ bool is_empty(const Visit& visit) const {
    if constexpr (!Config::kHasLists) return false;
    return visit.part(part_) == kEmptyPart;
  }
  __device__ bool is_partial(const Visit& visit) const {
    if constexpr (!Config::kHasLists) return visit.is_partial();
    return visit.part(part_) == kPartialPart;
  }

  __device__ LanePlace lane_place(const Visit& visit) const {
    const int column = lane() % 4 * 2;
    return {first_row() - first_kept() + lane() / 4,  column,           lane_query(),
            visit.tile() * Config::kKeyTile + column, shape_.key_start, shape_.keys};
  }

  /// Products of a visit's tile turned into scores; returns their factor to log2 units. `is_on_line`: what its
  /// diagonals share has not been made.
  __device__ float score(Scores& s, const Visit& visit, int number, bool is_partial, bool is_on_line) {
    if constexpr (kTakesLines) {
      if (is_on_line) values().complete_tile(variant_, first_query(), visit.tile() * Config::kKeyTile, number % 2);
    }
    const LanePlace place = lane_place(visit);
    const auto apply = [&] {
      if (is_partial)
        return values().template apply<true, Config::kHasLists>(s, arguments_.scale, variant_, place, number % 2);
      return values().template apply<false>(s, arguments_.scale, variant_, place, number % 2);
    };
    if constexpr (Config::kHasMaxScore) {
      const Scores products = s;
      const float factor = apply();
      largest_.note(products, s, arguments_.scale, lane_query(), shape_.queries);
      return factor;
    }
    return apply();
  }

  /// Rearranged scores are clamped where that can matter: in partial tiles, where rows have no base yet, and where one
  /// is low, which weights tell or, where tiles may be on lines, is known since it was last moved.
  static constexpr bool kClampsSeldom = Variant::kIsRearranged && Variant::kChangesScores;
  __device__ bool outgrown(const TileWeights& weights) const {
    if constexpr (kClampsSeldom && !kTakesLines) return weights.outgrown(rows_);
    return weights.outgrown();
  }
  __device__ void move_bases(const Scores& s, float factor) {
    rows_.rebase(s, factor, o_);
    if constexpr (kTakesLines) is_free_ = rows_.all_free();
  }
  __device__ bool is_free() const { return kTakesLines && is_free_; }

  /// o += weights v for the tile at hand, whose products are `s`; leaves in `s` the products of the next, which is in
  /// another stage, or kNone. `index` is that of the visit, which where it is seldom needed is looked up again, because
  /// registers are short.
  static constexpr int kNone = -1;
  template <class Walk>
  __device__ void visit_tile(Scores& s, const Walk& tiles, int index, const Visit& visit, const Visit& next_visit,
                             const Lines& lines, int stage, int next_stage) {
    typename Values::Made made;
    const bool is_on_line = kTakesLines && lines.has_this;
    const bool wants_values = next_stage != kNone && !(kTakesLines && lines.has_next);
    if (wants_values) make_values(made, next_visit);
    const bool wants_next = next_stage != kNone && !is_empty(next_visit);
    if (is_empty(visit)) {
      if (wants_values) keep_values(made, next_visit, index + 1);
      if (wants_next) multiply_queries_by_keys(s, next_stage, [](int) {});
      return;
    }
    float factor = 1, step = 0;
    bool rebase = false;
    if (is_on_line && !is_partial(visit) && take_line(visit, lines)) {
      factor = apply_on_line(s, visit);
      step = lines.at_hand.step;
    } else {
      give_line_back();
      rebase = !is_free() && !rows_.all_based();
      factor = score(s, visit, index, is_partial(visit) || (kClampsSeldom && (kTakesLines ? !is_free() : rebase)),
                     is_on_line);
    }
    if (wants_values) keep_values(made, next_visit, index + 1);
    if (rebase) move_bases(s, factor);
    TileWeights weights;
    const auto exponent = [&](int i, int j, int e, float base) {
      const float x = fmaf(s.x[i][j][e], factor, -base);
      if constexpr (kTakesLines && Values::kHasSteps)
        return 8 * j + e % 2 == 0 ? x : fmaf(step, -(8.0f * j + e % 2), x);
      return x;
    };
    Scores next;
    if (wants_next) {
      multiply_queries_by_keys(
          next, next_stage, [&](int product) { weights.template make_share<kProductSteps>(product, exponent, rows_); });
    } else {
      weights.template make_of<0>(exponent, rows_);
    }
    if (!rebase && outgrown(weights)) {
      // The rows need new bases, and what they are taken from is overwritten: once more, which is rare.
      give_line_back();
      multiply_queries_by_keys(s, stage, [](int) {});
      factor = score(s, tiles.visit(index), index, true, is_on_line);
      step = 0;
      move_bases(s, factor);
      weights = TileWeights();
      weights.template make_of<0>(exponent, rows_);
    }
    weights.add_sums_to(rows_);
    if constexpr (Config::kHasDropout) drop(weights, tiles.visit(index));
    add_weights_times_values(o_, weights, stage);
    s = next;
  }

  /// Takes the line of a tile off the rows' bases, where all have bases that need no clamping, and says whether. Where
  /// it is that of the tile before it has been taken already.
  __device__ bool take_line(const Visit& visit, const Lines& lines) {
    if constexpr (kTakesLines) {
      if (has_taken_line_ && lines.goes_on) return true;
      if (has_taken_line_) {
        values().take_bases_back(rows_);
      } else {
        if (!is_free_) return false;
        values().keep_bases(rows_);
      }
      has_taken_line_ = true;
      values().take_line(rows_, variant_, lane_place(visit), lines.at_hand);
    }
    return true;
  }
  /// Products of a tile whose line is taken, turned into what exponents are made of; returns their factor.
  __device__ float apply_on_line(Scores& s, const Visit& visit) const {
    if constexpr (kTakesLines) {
      values().apply_on_line(s, variant_, lane_place(visit));
      return values().factor(variant_);
    }
    return 1;
  }
  __device__ void give_line_back() {
    if constexpr (kTakesLines) {
      if (has_taken_line_) values().take_bases_back(rows_);
      has_taken_line_ = false;
    }
  }

  /// Zeroes the weights that dropout drops. The others are scaled with the whole row in the end.
  __device__ void drop(TileWeights& weights, const Visit& visit) {
    const int head_index = sequence_ * gridDim.y + head();
#pragma unroll
    for (int k = 0; k < Config::kKeyTile / 16; ++k) {
#pragma unroll
      for (int i = 0; i < Config::kRowBlocks; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const unsigned bytes = dropout_bytes(arguments_.dropout, visit.tile() * (Config::kKeyTile / 16) + k,
                                               lane_query() + 16 * i + 8 * half, head_index, lane() % 4);
          keep_pair(weights.fragments[k][i], half, keeps(bytes), keeps(bytes >> 8));
          keep_pair(weights.fragments[k][i], half + 2, keeps(bytes >> 16), keeps(bytes >> 24));
        }
      }
    }
  }

  /// Whether dropout keeps the weight of a random byte, the lowest of these.
  __device__ bool keeps(unsigned bytes) const { return (bytes & 0xff) < arguments_.dropout.keep_below; }

  LinesAhead lines_{0, 0};       // the same for the whole warp
  bool is_free_ = false;         // whether all rows have bases with which scores need no clamping
  bool has_taken_line_ = false;  // off the rows' bases
  int part_ = 0;                 // of a list's tiles, that the warp's queries are
  const KeyLoader keys_;
  const ValueLoader values_;
};

}  // namespace tilewise::cuda

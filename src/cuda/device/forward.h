// Forward attention: o = softmax(variant(scale * q k^T)) v and lse, a row of query tiles to a block.
#pragma once

#include "arguments.h"
#include "copy.h"
#include "forward_products.h"
#include "largest_score.h"
#include "merge.h"
#include "philox.h"
#include "scores.h"
#include "softmax.h"
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
class Forward : ForwardProducts<Config> {
  using Products = ForwardProducts<Config>;
  using Products::add_weights_times_values, Products::first_row, Products::key_tile, Products::lane,
      Products::load_queries_to_registers, Products::multiply_queries_by_keys, Products::query_tile,
      Products::value_tile;
  using Products::kColumnsV, Products::kProductSteps, Products::shared_;
  using typename Products::KeyTile;
  using typename Products::Output;
  using typename Products::OutputTile;
  using typename Products::QueryTile;
  using typename Products::Scores;
  using typename Products::TileWeights;
  using typename Products::ValueTile;

 public:
  using Products::kQueryTile, Products::kSharedBytes, Products::kThreads;
  using typename Products::Element;

  __device__ Forward(const ForwardArguments& arguments, const typename Variant::Arguments& variant, unsigned shared)
      : Forward(arguments, variant, shared, row_of_block(arguments.lists)) {}

  __device__ void run() {
    const RowPart taken = row_of_block(arguments_.lists);
    if (threadIdx.x == 0) taken_row() = taken;
    RowStart row{taken.place, -1, 0, 0};
    if (Config::kHasLists && arguments_.lists.order != nullptr) {
      row = row_start(arguments_.lists, sequence_, taken.head, taken.place);
    }
    query_begin_ = (Config::kHasLists ? of_warp(row.row) : row.row) * kQueryTile;
    if (query_begin_ >= shape_.queries) return;
    values().prepare(variant_,
                     Variant::place_of(variant_, shape_, sequence_, taken.head, taken.head / arguments_.heads_per_kv,
                                       arguments_.scale),
                     query_begin_);
    start_loading_queries(taken.head);
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
    finish();
  }

 private:
  __device__ Forward(const ForwardArguments& arguments, const typename Variant::Arguments& variant, unsigned shared,
                     const RowPart& row)
      : Products(shared),
        arguments_(arguments),
        variant_(variant),
        sequence_(blockIdx.z),
        shape_(arguments.sequences[blockIdx.z]),
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

  __device__ static RowPart row_of_block(const TileLists& lists) {
    return row_part(lists, Config::kHasLists ? lists.parts : 0, blockIdx.x, blockIdx.y, gridDim.x, gridDim.y);
  }
  /// The block's, for when it has tiles in its registers.
  __device__ static RowPart& taken_row() {
    __shared__ RowPart shared;
    return shared;
  }
  __device__ static int head() {
    if constexpr (!Config::kHasLists) return blockIdx.y;
    return taken_row().head;
  }
  /// Whether other blocks have other parts of the row's list.
  __device__ bool is_in_parts(const RowPart& row) const {
    return row.place < arguments_.lists.long_rows && arguments_.lists.parts > 1;
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

  /// The rows of one head of this block's sequence, from `first_row` of the storage on.
  __device__ GlobalRows<Element> rows_of(const TensorView& view, int head, long long first_row, int begin,
                                         int end) const {
    const long long first = sequence_ * view.batch + head * view.head + first_row * view.row;
    return {static_cast<Element*>(view.data) + first, view.row, begin, end};
  }
  __device__ GlobalRows<Element> query_rows(const TensorView& view, int head) const {
    return rows_of(view, head, first_query_row(), 0, shape_.queries);
  }
  __device__ GlobalRows<Element> key_rows(const TensorView& view, int head) const {
    return rows_of(view, head / arguments_.heads_per_kv, arguments_.keys_packed ? shape_.key_token : 0,
                   shape_.key_start, shape_.keys);
  }
  __device__ int first_query_row() const { return arguments_.queries_packed ? shape_.query_token : 0; }

  __device__ void start_loading_queries(int head) {
    const bool whole = query_begin_ + kQueryTile <= shape_.queries;
    QueryLoader(query_rows(arguments_.q, head)).start(query_tile(), query_begin_, whole, 0, shape_.queries);
  }

  __device__ void start_loading(const Visit& visit, int stage) {
    const int first = visit.tile() * Config::kKeyTile;
    keys_.start(key_tile(stage), first, !visit.is_partial(), shape_.key_start, shape_.keys);
    values_.start(value_tile(stage), first, !visit.is_partial(), shape_.key_start, shape_.keys);
  }

  /// Visits all key tiles, while the ones after them are on their way. The products of a tile with the queries are made
  /// one visit ahead, together with the exponentials of the tile at hand, which then do not keep tensor cores waiting.
  template <class Walk>
  __device__ void walk(const Walk& tiles) {
    static_assert(Config::kStages == 2 || Config::kStages == 3,
                  "one tile at hand, one for the products, one on its way");
    const int count = tiles.count();
    o_.clear();
    rows_.clear(lane_query(), shape_.queries);
    if (count == 0) return;
    Visit visit = tiles.visit(0, tiles.read(0)), next = visit;
    start_loading(visit, 0);
    commit_copies();
    if (count > 1) start_loading(next = tiles.visit(1, tiles.read(1)), 1);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    typename Values::Made made;
    if constexpr (kTakesLines) values().look_ahead(tiles, 0, variant_, query_begin_);
    make_values(made, visit);
    keep_values(made, visit, 0);
    load_queries_to_registers();
    Scores s;
    multiply_queries_by_keys(s, 0, [](int) {});
    for (int i = 0, stage = 0; i < count; ++i) {
      constexpr int kLast = Config::kStages - 1;
      const int next_stage = stage == kLast ? 0 : stage + 1, last_stage = next_stage == kLast ? 0 : next_stage + 1;
      const int ahead = tiles.read(::min(i + 2, count - 1));  // while others are waited for
      wait_for_copies<0>();
      __syncthreads();  // the next tile is here for all threads, and all are done with the one before
      const Lines lines = lines_of(tiles, i);
      Visit last = next;
      const auto load_last = [&] {
        if (i + 2 < count) start_loading(last = tiles.visit(i + 2, ahead), last_stage);
        commit_copies();
      };
      if constexpr (Config::kStages == 3) load_last();
      visit_tile(s, tiles, i, visit, next, lines, stage, i + 1 < count ? next_stage : kNone);
      if constexpr (Config::kStages == 2) {
        __syncthreads();  // all are done with this tile, whose place the last one takes
        load_last();
      }
      visit = next;
      next = last;
      stage = next_stage;
    }
  }

  __device__ int lane_query() const { return query_begin_ + first_row() + lane() / 4; }

  using Values = TileScores<Variant, kQueryTile, Config::kKeyTile, kThreads>;
  __device__ static Values& values() {
    __shared__ Values shared;
    return shared;
  }
  /// What the variant keeps for the visit of a number.
  __device__ void make_values(typename Values::Made& made, const Visit& visit) const {
    values().make_tile(made, variant_, query_begin_, visit.tile() * Config::kKeyTile);
  }
  /// Tiles whose diagonals lie on a line. Where the largest score is asked for, scores are made of all entries.
  static constexpr bool kTakesLines = Values::kKnowsLines && !Config::kHasMaxScore;
  struct Lines {
    TileLine at_hand;
    int has_next;  // whether the next tile is on one
  };
  /// Read while copies are on their way, so that nothing waits for it.
  template <class Walk>
  __device__ Lines lines_of(const Walk& tiles, int index) const {
    if constexpr (kTakesLines) {
      const TileLine at_hand = values().line(index);
      if ((index + 1) % Values::kAhead == 0) values().look_ahead(tiles, index + 1, variant_, query_begin_);
      return {at_hand, values().line(index + 1).is_known};
    } else {
      return {};
    }
  }
  __device__ void keep_values(const typename Values::Made& made, const Visit& visit, int number) const {
    values().keep_tile(made, variant_, query_begin_, visit.tile() * Config::kKeyTile, number % 2);
  }

  /// Whether a mask leaves nothing of the warp's rows of a tile, or may remove some of it. By votes, so that the
  /// compiler sees that branches on them are the whole warp's.
  static constexpr bool kHasParts = Config::kHasLists && kQueryTile <= 64 * Visit::kMostParts / 2;
  __device__ bool is_empty(const Visit& visit) const {
    if constexpr (!kHasParts) return false;
    return __all_sync(~0u, visit.misses(first_row() / 64));
  }
  __device__ bool is_partial(const Visit& visit) const {
    if constexpr (!kHasParts) return visit.is_partial();
    return __any_sync(~0u, visit.is_partial() && visit.cuts(first_row() / 64));
  }

  __device__ LanePlace lane_place(const Visit& visit) const {
    const int column = lane() % 4 * 2;
    return {first_row() + lane() / 4, column,     lane_query(), visit.tile() * Config::kKeyTile + column,
            shape_.key_start,         shape_.keys};
  }

  /// Products of a visit's tile turned into scores; returns their factor to log2 units. `is_on_line`: what its
  /// diagonals share has not been made.
  __device__ float score(Scores& s, const Visit& visit, int number, bool is_partial, bool is_on_line) {
    if constexpr (kTakesLines) {
      if (is_on_line) {
        values().template complete_tile<16 * Config::kRowBlocks>(
            variant_, query_begin_, visit.tile() * Config::kKeyTile, number % 2, first_row());
      }
    }
    const LanePlace place = lane_place(visit);
    const auto apply = [&] {
      if (is_partial) return values().template apply<true>(s, arguments_.scale, variant_, place, number % 2);
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

  /// Rearranged scores are clamped where that can matter: in partial tiles, where rows have no base yet, and where
  /// weights say that a base is low.
  static constexpr bool kClampsSeldom = Variant::kIsRearranged && Variant::kChangesScores;
  __device__ bool outgrown(const TileWeights& weights) const {
    if constexpr (kClampsSeldom) return weights.outgrown(rows_);
    return weights.outgrown();
  }

  /// o += weights v for the tile at hand, whose products are `s`; leaves in `s` the products of the next, which is in
  /// another stage, or kNone. `index` is that of the visit, which where it is seldom needed is looked up again, because
  /// registers are short.
  static constexpr int kNone = -1;
  template <class Walk>
  __device__ void visit_tile(Scores& s, const Walk& tiles, int index, const Visit& visit, const Visit& next_visit,
                             const Lines& lines, int stage, int next_stage) {
    typename Values::Made made;
    const bool is_on_line = kTakesLines && __any_sync(~0u, lines.at_hand.is_known != 0);
    const bool wants_values = next_stage != kNone && !(kTakesLines && __any_sync(~0u, lines.has_next != 0));
    if (wants_values) make_values(made, next_visit);
    const bool wants_next = next_stage != kNone && !is_empty(next_visit);
    if (is_empty(visit)) {
      if (wants_values) keep_values(made, next_visit, index + 1);
      if (wants_next) multiply_queries_by_keys(s, next_stage, [](int) {});
      return;
    }
    const bool rebase = !rows_.all_based();
    float factor = 1, step = 0;
    RowStatistics<Config::kRowBlocks> rows_of_weights;
    const bool is_classical = is_partial(visit) || (kClampsSeldom && rebase);
    const bool takes_line = is_on_line && !is_classical;
    if (takes_line) {
      rows_of_weights = rows_;
      if constexpr (kTakesLines) values().apply_line(s, rows_of_weights, variant_, lane_place(visit), lines.at_hand);
      factor = lines.at_hand.factor;
      step = lines.at_hand.step;
    } else {
      factor = score(s, visit, index, is_classical, is_on_line);
    }
    if (wants_values) keep_values(made, next_visit, index + 1);
    if (rebase) rows_.rebase(s, factor, o_);
    if (!takes_line) rows_of_weights = rows_;
    TileWeights weights;
    const auto exponent = [&](int i, int j, int e, float base) {
      const float x = fmaf(s.x[i][j][e], factor, -base);
      if constexpr (kTakesLines && Values::kHasSteps)
        return 8 * j + e % 2 == 0 ? x : fmaf(step, -(8.0f * j + e % 2), x);
      return x;
    };
    Scores next;
    if (wants_next) {
      multiply_queries_by_keys(next, next_stage, [&](int product) {
        weights.template make_share<kProductSteps>(product, exponent, rows_of_weights);
      });
    } else {
      weights.template make_of<0>(exponent, rows_of_weights);
    }
    if (!rebase && outgrown(weights)) {
      // The rows need new bases, and what they are taken from is overwritten: once more, which is rare.
      multiply_queries_by_keys(s, stage, [](int) {});
      factor = score(s, tiles.visit(index), index, true, is_on_line);
      step = 0;
      rows_.rebase(s, factor, o_);
      weights = TileWeights();
      weights.template make_of<0>(exponent, rows_);
    }
    weights.add_sums_to(rows_);
    if constexpr (Config::kHasDropout) drop(weights, tiles.visit(index));
    add_weights_times_values(o_, weights, stage);
    s = next;
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

  /// Divides by the sums, with the sink's part, and writes o and lse.
  __device__ void finish() {
    commit_copies();  // of queries that met no key
    wait_for_copies<0>();
    __syncthreads();  // all are done with the tiles whose place the output takes
    if constexpr (Config::kHasMaxScore) largest_.store(arguments_.max_score + head());
    if (Config::kHasLists && is_in_parts(taken_row())) return keep_part();
    const OutputTile output{shared_};
#pragma unroll
    for (int i = 0; i < Config::kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float multiplier = close_row(i, half);
        const int row = first_row() + 16 * i + 8 * half + lane() / 4;
#pragma unroll
        for (int j = 0; j < kColumnsV / 8; ++j) {
          const float* x = &o_.x[i][j][2 * half];
          store_pair(output.at(row, 8 * j + lane() % 4 * 2), Element{}, x[0] * multiplier, x[1] * multiplier);
        }
      }
    }
    __syncthreads();
    store_tile<kThreads, Config::kHeadV, Config::kAligned>(output, query_rows(arguments_.o, head()), query_begin_,
                                                           threadIdx.x);
  }

  /// Writes the part's quotients and lse, of which merge_rows makes the answer.
  __device__ void keep_part() const {
    const TileLists& lists = arguments_.lists;
    const RowPart taken = taken_row();
    const long long place =
        (static_cast<long long>(sequence_) * gridDim.y + taken.head) * lists.long_rows + taken.place;
#pragma unroll
    for (int i = 0; i < Config::kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row() + 16 * i + 8 * half + lane() / 4;
        const long long part = (place * kQueryTile + row) * lists.parts + taken.part;
        const float sum = sum_of_row(rows_.sum[i][half]);
        float multiplier = sum == 0 ? 0 : 1 / sum;
        if constexpr (Config::kHasDropout) multiplier *= arguments_.dropout.scale;
        if (lane() % 4 == 0) arguments_.partial_lse[part] = rows_.base[i][half] + log2f(sum);
        float* const to = arguments_.partial_o + part * Config::kHeadV;
#pragma unroll
        for (int j = 0; j < kColumnsV / 8; ++j) {
          const float* x = &o_.x[i][j][2 * half];
          const int column = 8 * j + lane() % 4 * 2;
          if (column < Config::kHeadV)
            *reinterpret_cast<float2*>(to + column) = make_float2(x[0] * multiplier, x[1] * multiplier);
        }
      }
    }
  }

  /// Writes the row's lse and returns what turns its sums into its outputs.
  __device__ float close_row(int i, int half) {
    float base = rows_.base[i][half], sum = sum_of_row(rows_.sum[i][half]), multiplier = 1;
    if constexpr (Variant::kHasSink) {
      const float sink = Variant::sink_logit(variant_, values().place()) * kLog2E;
      const float joint = fmaxf(base, sink);
      multiplier = exp2_of(base - joint);
      sum = sum * multiplier + exp2_of(sink - joint);
      base = joint;
    }
    const int query = lane_query() + 16 * i + 8 * half;
    if (arguments_.lse.data != nullptr && query < shape_.queries && lane() % 4 == 0) {
      const TensorView& view = arguments_.lse;
      const long long row = query + first_query_row();
      static_cast<float*>(view.data)[sequence_ * view.batch + head() * view.head + row * view.row] =
          (base + log2f(sum)) * kLn2;
    }
    if constexpr (Config::kHasDropout) multiplier *= arguments_.dropout.scale;
    return sum == 0 ? 0 : multiplier / sum;
  }

  const ForwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  const int sequence_;
  const SequenceShape& shape_;  // in global memory, and read anew where it is needed, which is seldom
  const KeyLoader keys_;
  const ValueLoader values_;
  int query_begin_ = 0;
  LargestScore largest_;  // where it is asked for
  RowStatistics<Config::kRowBlocks> rows_;
  Output o_;
};

/// Merges the parts of the queries of long rows, each by a warp: (four queries, head, sequence) a block.
template <class Kernel, class Config, class Variant>
__device__ inline void merge_rows(const ForwardArguments& a, const typename Variant::Arguments& variant) {
  const int number = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, head = blockIdx.y, sequence = blockIdx.z;
  const SequenceShape& shape = a.sequences[sequence];
  const int row = row_of(a.lists, sequence, head, number / Kernel::kQueryTile);
  const int query = row * Kernel::kQueryTile + number % Kernel::kQueryTile;
  if (query >= shape.queries) return;
  const long long rows = a.lists.long_rows * Kernel::kQueryTile;
  const long long first = ((static_cast<long long>(sequence) * gridDim.y + head) * rows + number) * a.lists.parts;
  merge_parts<Config, Variant, 1>(a, variant, shape, {sequence, head, query}, a.partial_o + first * Config::kHeadV,
                                  a.partial_lse + first, a.lists.parts);
}

}  // namespace tilewise::cuda

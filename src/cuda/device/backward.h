// Backward attention: d_k and d_v of a tile of keys to a block, which adds its part of d_q to global sums.
//
// With P = exp(S - lse) recomputed, D = rowsum(d_o * o) - d_lse and the variant's slope dS/ds (Dao et al., 2022,
// algorithm 4):
//   d_v = P^T d_o;   d_p = d_o v^T;   d_s = P * (d_p - D) * slope;   d_k = scale d_s^T q;   d_q = scale d_s k.
#pragma once

#include "arguments.h"
#include "backward_products.h"
#include "backward_queries.h"
#include "block_barrier.h"
#include "conditional.h"
#include "copy.h"
#include "launches.h"
#include "query_sums.h"
#include "score_gradients.h"
#include "store_rows.h"
#include "walk.h"

namespace tilewise::cuda {

/// One (sequence, key head, key tile) after the other: all query heads that the key head serves, and all query tiles
/// that meet the keys.
///
/// Config has Element, kHeadQk, kHeadV, kHasLists, kHasDropout, kAligned as for Forward, kHasGradients, and
///   kKeys, kQueries, kWarps, kStages   tile, warps, and how many tiles of q and d_o are in shared memory
///   kScoreColumns                      warps side by side in a tile of scores
///   kColumnWarps                       warps side by side in d_k and d_v
template <class Config, class Variant>
class Backward : BackwardProducts<Config> {
  using Products = BackwardProducts<Config>;
  using Products::kColumnsQk, Products::kHasHalf, Products::kInRegisters, Products::kKeys, Products::kQueries,
      Products::kScoreBlocks, Products::kScoreRows, Products::kStages, Products::kTileBytes, Products::kWarps;
  using Products::lane, Products::warp, Products::key_tile, Products::value_tile, Products::score_tile,
      Products::weight_tile, Products::query_tile, Products::gradient_tile, Products::row_numbers;
  using Products::multiply_transposed, Products::store_scores;
  using typename Products::KeyGrid;
  using typename Products::KeyTile;
  using typename Products::QueryGrid;
  using typename Products::ScoreGrid;
  using typename Products::Scores;
  using typename Products::ScoreTile;
  using typename Products::TileFragments;
  using typename Products::ValueGrid;

 public:
  using Products::kThreads;
  using typename Products::Element;
  static constexpr int kBarrierBytes = 64;
  static constexpr int kSharedBytes = Products::kTileBytes + kBarrierBytes;

  __device__ Backward(const BackwardArguments& arguments, const typename Variant::Arguments& variant, unsigned shared)
      : Products(shared),
        arguments_(arguments),
        variant_(variant),
        sequence_(blockIdx.z),
        part_(Config::kIsDeterministic ? (blockIdx.y * gridDim.x + blockIdx.x) / key_heads() : 0),
        shape_(arguments.sequences[blockIdx.z]) {}

  /// The block's row of key tiles; where it has sums of d_q of its own also every gridDim.x-th place behind it, and
  /// what the next row needs first is on its way while the sums of the one before are written.
  __device__ void run() {
    if (threadIdx.x == 0) {
      create_barriers();
      row(0) = row_of(blockIdx.y * gridDim.x + blockIdx.x);
    }
    while (true) {
      commit_copies();
      wait_for_copies<0>();  // also of keys that no query met: the next ones' take no turn behind them
      __syncthreads();       // the row is known, and the tiles are free for its keys
      const bool has_row = row(taken_).head >= 0;
      if (has_row) begin();
      if (taken_ > 0) store_d_v(row(taken_ - 1));
      if (!has_row) return;
      d_k_.clear();
      d_v_.clear();
      visit_queries();
      store_sums<KeyGrid, Config::kHeadQk>(arguments_.d_k, row(taken_), d_k_, arguments_.scale);
      if (!kTakesRows) return store_d_v(row(taken_));
      __syncthreads();  // all are done with the row before
      if (threadIdx.x == 0) row(taken_ + 1) = row_of(row(taken_).number + gridDim.x * gridDim.y);
      ++taken_;
    }
  }

 private:
  /// Whether a block may take more than its own row. Others have no loop, for which 20 to 90 bytes were spilled.
  static constexpr bool kTakesRows = Config::kIsDeterministic;

  /// A tile of keys of a head, and what is known of its first visit.
  struct KeyRow {
    int number;  // in the order of a sequence's rows, those of all heads by turns
    int head;    // of keys; below 0: there is no more
    RowStart start;

    __device__ int begin() const { return start.row * kKeys; }
  };
  /// The one at hand and the one before or behind it: kept here, where they take no registers. One thread writes them;
  /// then all must meet.
  __device__ static KeyRow& row(int taken) {
    __shared__ KeyRow shared[2];
    return shared[taken % 2];
  }
  __device__ KeyRow row_of(int number) const {
    const int heads = key_heads(), place = number / heads, head = number % heads;
    if (place >= arguments_.key_tiles) return {number, -1, {}};
    const TileLists& lists = arguments_.lists;
    if (!Config::kHasLists || lists.order == nullptr) return {number, head, {place, -1, 0, 0}};
    return {number, head, row_start(lists, sequence_, head * arguments_.heads_per_kv, place)};
  }
  __device__ int key_heads() const { return arguments_.h_q / arguments_.heads_per_kv; }
  __device__ int key_head() const { return row(taken_).head; }
  __device__ int first_head() const { return key_head() * arguments_.heads_per_kv; }
  __device__ int key_begin() const { return row(taken_).begin(); }

  /// Begins to load the keys of a row and what the first visit of its first head needs.
  __device__ void begin() {
    has_all_keys_ = key_begin() >= shape_.key_start && key_begin() + kKeys <= shape_.keys;
    const bool has_keys = key_begin() < shape_.keys;
    if (has_keys) load_keys();
    wait_for_kernels_before();  // which prepare queries
    if (!has_keys) return;
    const HeadWalk first = walk_of(first_head());
    if (first.tiles.count() > 0) load_visit(visits_, first_head(), first.tiles.visit(0, first.read));
  }

  __device__ void visit_queries() {
    if (key_begin() >= shape_.keys) return;
    for (int head = first_head(); head < first_head() + arguments_.heads_per_kv; ++head) walk(walk_of(head), head);
  }

  /// The queries of a head, and what has been read of the first visit.
  struct HeadWalk {
    Conditional<Config::kHasLists, ListWalk, TilesInOrder> tiles;
    int read;
  };
  __device__ HeadWalk walk_of(int head) const {
    if constexpr (Config::kHasLists) {
      const TileLists& lists = arguments_.lists;
      const RowStart start = row(taken_).start;
      const long long list = list_of(lists, sequence_, head, start.row);
      int count = start.count, first = start.entry;
      if (count < 0 || (head != first_head() && lists.head_rows != 0)) {  // another list's
        count = lists.count[list];
        first = count > 0 ? lists.tiles[list * lists.capacity] : 0;
      }
      return {ListWalk(lists, list, count), first};
    } else {
      return {{0, (shape_.queries + kQueries - 1) / kQueries}, 0};
    }
  }

  __device__ GlobalRows<Element> rows_of(const TensorView& view, int head, long long first_row, int begin,
                                         int end) const {
    const long long first = sequence_ * view.batch + head * view.head + first_row * view.row;
    return {static_cast<Element*>(view.data) + first, view.row, begin, end};
  }
  __device__ GlobalRows<Element> key_rows(const TensorView& view, int head) const {
    return rows_of(view, head, arguments_.keys_packed ? shape_.key_token : 0, shape_.key_start, shape_.keys);
  }

  template <int kColumns, class Tile>
  __device__ void load(const Tile& tile, const GlobalRows<Element>& rows, int first) {
    const bool whole = first >= rows.begin && first + Tile::kTileRows <= rows.end;
    TileLoader<Tile, kThreads, kColumns, Config::kAligned, Element>(rows).start(tile, first, whole, rows.begin,
                                                                                rows.end);
  }

  __device__ void load_keys() {
    load<Config::kHeadQk>(key_tile(), key_rows(arguments_.k, key_head()), key_begin());
    load<Config::kHeadV>(value_tile(), key_rows(arguments_.v, key_head()), key_begin());
  }

  /// Row numbers of the workspace begin here for a head of this sequence.
  __device__ long long workspace_row(int head) const {
    return (static_cast<long long>(sequence_) * arguments_.h_q + head) * arguments_.s_q;
  }

  __device__ void start_loading(int head, int query_begin, int stage) {
    const int queries = shape_.queries;  // in global memory: read but once
    const long long token = arguments_.queries_packed ? shape_.query_token : 0;
    load<Config::kHeadQk>(query_tile(stage), rows_of(arguments_.q, head, token, 0, queries), query_begin);
    load<Config::kHeadV>(gradient_tile(stage), rows_of(arguments_.d_o, head, token, 0, queries), query_begin);
    const auto load_number = [&](int number) {
      const int row = number % kQueries;
      const float* numbers = (number < kQueries ? arguments_.reference : arguments_.delta) + workspace_row(head);
      const bool exists = query_begin + row < queries;
      copy_async_4(row_numbers(stage) + number * 4, numbers + (exists ? query_begin + row : 0), exists);
    };
    if constexpr (2 * kQueries <= kThreads) {
      if (threadIdx.x < 2 * kQueries) load_number(threadIdx.x);
    } else {
      for (int number = threadIdx.x; number < 2 * kQueries; number += kThreads) load_number(number);
    }
  }

  // Where warps wait for each other: each goes on as soon as what it needs is there, and so the eight are at different
  // places of a tile. With __syncthreads() in their places 8% of the time was spent there.
  //   loaded(stage)  queries and d_o of a tile, with what scores need of them, are in shared memory
  //   written()      scores of all warps are
  //   read()         all are done with them, and with the tile
  // The number of a visit, counted through all heads and tiles of keys, tells the phases.
  static_assert((kStages + 2) * 8 <= kBarrierBytes);
  __device__ BlockBarrier barrier(int number) const { return {this->shared_ + kTileBytes + 8 * number}; }
  __device__ BlockBarrier written() const { return barrier(0); }
  __device__ BlockBarrier read() const { return barrier(1); }
  __device__ BlockBarrier loaded(int stage) const { return barrier(2 + stage); }
  /// By one thread; then all must meet.
  __device__ void create_barriers() const {
    written().create(kWarps);
    read().create(kWarps);
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) loaded(stage).create(kThreads + kWarps);
  }

  /// Begins to load what a visit needs.
  __device__ void load_visit(int visits, int head, const Visit& visit) {
    const int stage = visits % kStages;
    start_loading(head, visit.tile() * kQueries, stage);
    loaded(stage).arrive_after_copies();
    loaded(stage).arrive_as_warp();  // for what was stored without copies
  }

  __device__ void walk(const HeadWalk& walked, int head) {
    const auto& tiles = walked.tiles;
    const int count = tiles.count();
    if (count == 0) return;
    Visit visit = tiles.visit(0, walked.read);
    if (head != first_head()) {
      __syncthreads();  // the stages and the values are free
      load_visit(visits_, head, visit);
    }
    prepare_values(head, visit.tile() * kQueries);
    __syncthreads();  // the values are there
    for (int i = 0; i < count; ++i) {
      const int ahead = tiles.read(::min(i + 1, count - 1));  // while others are waited for
      const bool has_all_queries = (visit.tile() + 1) * kQueries <= shape_.queries;
      loaded(visits_ % kStages).wait(visits_ / kStages % 2);
      const bool has_next = i + 1 < count;
      const Visit next = tiles.visit(i + 1, ahead);
      visit_tile(
          visit, has_all_queries, i, head,
          [&] {
            if (has_next) values().prepare_tile(variant_, next.tile() * kQueries, key_begin(), i + 1);
          },
          [&] {
            if (has_next) load_visit(visits_ + 1, head, next);
          });
      ++visits_;
      visit = next;
    }
  }

  using Values = HeadValues<Config, Variant>;
  __device__ static Values& values() {
    __shared__ Values shared;
    return shared;
  }
  __device__ void prepare_values(int head, int first_query) const {
    using Recorded = typename Variant::Recorded;
    const auto& recorded = reinterpret_cast<const typename Recorded::Arguments&>(variant_);
    values().prepare(variant_, Variant::place_of(variant_, shape_, sequence_, head, key_head(), arguments_.scale),
                     Recorded::place_of(recorded, shape_, sequence_, head, key_head(), arguments_.scale), first_query,
                     key_begin());
  }

  /// What a mask does to the keys [row, row + rows) and the queries [column, column + columns) of a tile.
  __device__ int part_of(const Visit& visit, bool has_all_queries, int row, int rows, int column, int columns) const {
    if constexpr (!Config::kHasLists) return has_all_queries && has_all_keys_ ? kFullPart : kPartialPart;
    int part = kFullPart;
    if (visit.is_partial()) {
      const int keys[] = {row / (kKeys / 2), (row + rows - 1) / (kKeys / 2)};
      const int queries[] = {column / 64, (column + columns - 1) / 64};
      part = visit.part(queries[0], keys[0]);
#pragma unroll
      for (int i = 1; i < 4; ++i) {
        if (visit.part(queries[i / 2], keys[i % 2]) != part) part = kPartialPart;
      }
    }
    return part == kFullPart && !has_all_queries ? kPartialPart : part;
  }

  /// By a vote, so that the compiler sees that branches on it are the whole warp's.
  __device__ static bool is_empty(int part) { return Config::kHasLists && __all_sync(~0u, part == kEmptyPart); }

  /// Whether rearranged scores of these queries may be below the clamp and count all the same.
  __device__ static bool has_low_rows(unsigned numbers) {
    if constexpr (!Variant::kIsRearranged || !Variant::kChangesScores) return false;
    float lowest = 0;
#pragma unroll
    for (int first = 0; first < kQueries; first += 32) {
      float reference;
      asm volatile("ld.shared.f32 %0, [%1];" : "=f"(reference) : "r"(numbers + (first + lane()) * 4) : "memory");
      lowest = fminf(lowest, reference);
    }
    return __any_sync(~0u, lowest < kLeastFreeBase);
  }

  /// Of lists most tiles are full, and looking up parts of them between the products would keep these from each other:
  /// 4% of causal attention at d 128. Float32 and dropout leave no registers for a text of their own.
  static constexpr bool kTakesFullApart =
      Config::kHasLists && sizeof(Element) == 2 && !Config::kHasDropout && !Config::kHasGradients;

  /// `prepare_next` makes what the next tile's scores need, `load_next` begins to load that tile.
  template <class PrepareNext, class LoadNext>
  __device__ void visit_tile(const Visit& visit, bool has_all_queries, int number, int head,
                             const PrepareNext& prepare_next, const LoadNext& load_next) {
    if constexpr (kTakesFullApart) {
      if (__all_sync(~0u, !visit.is_partial() && has_all_queries))
        return visit_parts<true>(visit, has_all_queries, number, head, prepare_next, load_next);
    }
    visit_parts<false>(visit, has_all_queries, number, head, prepare_next, load_next);
  }

  /// `kIsFull`: a mask's list says that nothing of the tile is removed.
  template <bool kIsFull, class PrepareNext, class LoadNext>
  __device__ void visit_parts(const Visit& visit, bool has_all_queries, int number, int head,
                              const PrepareNext& prepare_next, const LoadNext& load_next) {
    const int stage = visits_ % kStages, query_begin = visit.tile() * kQueries;
    TileFragments weights, d_scores;
    make_scores<kIsFull>(weights, d_scores, visit, has_all_queries, number, head, stage);
    const bool wants_queries = arguments_.d_q.data != nullptr;
    const bool has_keys = kIsFull || !is_empty(part_of(visit, has_all_queries, ValueGrid::row(warp()),
                                                       16 * ValueGrid::kRows, 0, kQueries));
    read().wait((visits_ + 1) % 2);  // of the tile before
    if constexpr (!kInRegisters) store_scores(weight_tile(), weights);
    if (!kInRegisters || wants_queries) store_scores(score_tile(), d_scores);
    written().arrive_as_warp();
    // What a warp has in registers it takes before it waits for the others.
    if ((kInRegisters || kHasHalf) && has_keys) {
      Products::template add_own_product<ValueGrid>(d_v_, weights, gradient_tile(stage));
      Products::template add_own_product<KeyGrid>(d_k_, d_scores, query_tile(stage));
    }
    prepare_next();
    written().wait(visits_ % 2);
    if constexpr (kStages > 1) load_next();  // all are done with the tile before, whose place it takes
    if (!kInRegisters && has_keys) {
      constexpr int kSteps = kHasHalf ? kScoreBlocks : kQueries / 16;
      const int first = kHasHalf ? kQueries / 2 - ScoreGrid::column(warp()) : 0;  // the other half
      Products::template add_product<ValueGrid, kSteps>(d_v_, weight_tile(), gradient_tile(stage), first);
      Products::template add_product<KeyGrid, kSteps>(d_k_, score_tile(), query_tile(stage), first);
    }
    if (wants_queries) reduce_queries(query_begin, head);
    read().arrive_as_warp();
    if constexpr (kStages == 1) {
      read().wait(visits_ % 2);
      load_next();
    }
  }

  /// The warp's piece of a tile's weights and of the gradients of its products.
  template <bool kIsFull>
  __device__ void make_scores(TileFragments& weights, TileFragments& d_scores, const Visit& visit, bool has_all_queries,
                              int number, int head, int stage) {
    Scores p, d_s;
    int part = kFullPart;
    if constexpr (!kIsFull) {
      part = part_of(visit, has_all_queries, ScoreGrid::row(warp()), 16 * kScoreRows, ScoreGrid::column(warp()),
                     16 * kScoreBlocks);
    }
    if (!kIsFull && is_empty(part)) {
      p.clear();
      d_s.clear();
    } else {
      multiply_transposed(p, key_tile(), query_tile(stage));
      multiply_transposed(d_s, value_tile(), gradient_tile(stage));
      const ScoreGradients<Config, Variant, ScoreGrid> gradients{arguments_, variant_,  shape_,
                                                                 values(),   sequence_, key_begin()};
      if ((!kIsFull && __any_sync(~0u, part == kPartialPart)) || has_low_rows(row_numbers(stage))) {
        gradients.template make<true>(p, d_s, number, visit.tile() * kQueries, head, row_numbers(stage));
      } else {
        gradients.template make<false>(p, d_s, number, visit.tile() * kQueries, head, row_numbers(stage));
      }
    }
    weights = fragments_of(Element{}, p);
    d_scores = fragments_of(Element{}, d_s);
  }

  /// Adds d_s k to the sums of d_q: this warp's piece, at most 32 numbers of a lane at a time.
  __device__ void reduce_queries(int query_begin, int head) {
    constexpr int kMost = QueryGrid::kRows < 4 ? 4 / QueryGrid::kRows : 1;
    constexpr int kChunk = QueryGrid::kColumns < kMost ? QueryGrid::kColumns : kMost;  // blocks of columns
    const auto left = LaneAddress<ScoreTile>::left_transposed(score_tile(), lane());
    const auto right = LaneAddress<KeyTile>::right(key_tile(), lane());
    const int first_row = QueryGrid::row(warp()), first_column = QueryGrid::column(warp());
    using Sums = QuerySums<Config::kHeadQk>;
    static_assert(Sums::kRoom % kQueries == 0, "tiles that reach past the queries have their place");
    float* const sums = Sums::of_head(arguments_.d_q_sums + part_ * arguments_.d_q_part,
                                      static_cast<long long>(sequence_) * arguments_.h_q + head, arguments_.s_q)
                            .place(query_begin + first_row, first_column, lane());
    constexpr bool kAllColumns = QueryGrid::kEven && kColumnsQk == Config::kHeadQk;
#pragma unroll
    for (int chunk = 0; chunk < QueryGrid::kColumns; chunk += kChunk) {
      const int first = first_column + 16 * chunk;
      Accumulator<QueryGrid::kRows, 2 * kChunk> product;
      product.clear();
      const auto has = [&](int j) {
        return (QueryGrid::kColumns % kChunk == 0 || chunk + j < QueryGrid::kColumns) &&
               QueryGrid::has(warp(), chunk + j);
      };
      multiply<kKeys / 16>(
          Element{}, product, [&](int k, int i) { return load_left_transposed(left, 16 * k, first_row + 16 * i); },
          [&](int k, int j) { return load_right(right, 16 * k, first + 16 * j); }, has);
#pragma unroll
      for (int i = 0; i < QueryGrid::kRows; ++i) {
#pragma unroll
        for (int j = 0; j < 2 * kChunk; ++j) {
          if (!has(j / 2) || !(kAllColumns || first + 8 * j < Config::kHeadQk)) continue;
          Sums::add(sums + i * Sums::kNextRows + (2 * chunk + j) * Sums::kFloats, product.x[i][j]);
        }
      }
    }
  }

  __device__ void store_d_v(const KeyRow& keys) const {
    float scale = 1;
    if constexpr (Config::kHasDropout) scale = arguments_.dropout.scale;
    store_sums<ValueGrid, Config::kHeadV>(arguments_.d_v, keys, d_v_, scale);
  }

  /// A piece of d_k or d_v, where it is wanted. Keys before key_start exist in it: their gradient is zero.
  template <class Grid, int kColumns>
  __device__ void store_sums(const TensorView& view, const KeyRow& keys, const typename Grid::Sums& sums,
                             float scale) const {
    if (view.data == nullptr) return;
    const GlobalRows<Element> rows = key_rows(view, keys.head);
    const int column = Grid::column(warp());
    constexpr bool kAllColumns = Grid::kEven && kColumns % 16 == 0;
#pragma unroll
    for (int i = 0; i < Grid::kRows; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = keys.begin() + Grid::row(warp()) + 16 * i + 8 * half + lane() / 4;
        Element* const to = rows.data + row * rows.stride + column;
#pragma unroll
        for (int first = 0; first < 2 * Grid::kColumns; first += 4) {
          int blocks = 2 * Grid::kColumns - first < 4 ? 2 * Grid::kColumns - first : 4;
          if constexpr (!kAllColumns) blocks = ::min(blocks, (kColumns - column) / 8 - first);
          store_blocks<Config::kAligned>(to + 8 * first, blocks, row < rows.end, [&](int j) {
            const float* const x = &sums.x[i][first + j][2 * half];
            return make_float2(x[0] * scale, x[1] * scale);
          });
        }
      }
    }
  }

  const BackwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  const int sequence_;
  const int part_;  // of the sums of d_q
  const SequenceShape& shape_;
  int taken_ = 0;              // rows before the one at hand
  int visits_ = 0;             // before this one
  bool has_all_keys_ = false;  // the row at hand
  typename KeyGrid::Sums d_k_;
  typename ValueGrid::Sums d_v_;
};

}  // namespace tilewise::cuda

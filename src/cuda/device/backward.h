// Backward attention: d_k and d_v of a tile of keys to a block, which adds its part of d_q to global sums.
//
// With P = exp(S - lse) recomputed, D = rowsum(d_o * o) - d_lse and the variant's slope dS/ds (Dao et al., 2022,
// algorithm 4):
//   d_v = P^T d_o;   d_p = d_o v^T;   d_s = P * (d_p - D) * slope;   d_k = scale d_s^T q;   d_q = scale d_s k.
#pragma once

#include "arguments.h"
#include "copy.h"
#include "gradients.h"
#include "mma.h"
#include "philox.h"
#include "scores.h"
#include "softmax.h"
#include "walk.h"

namespace tilewise::cuda {

/// One (sequence, key head, key tile): all query heads that the key head serves, and all query tiles that meet the
/// keys.
///
/// Products are made transposed, with a warp's 16 keys as rows, so that P^T and d_s^T become left operands of d_v and
/// d_k in registers; d_s goes through shared memory for d_q, of which a warp makes 16 queries.
///
/// Config has Element, kHeadQk, kHeadV, kHasLists, kHasDropout, kAligned as for Forward.
template <class Config, class Variant>
class Backward {
 public:
  using Element = typename Config::Element;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kKeys = 16 * kWarps, kQueries = 64, kStages = 2;
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using QueryTile = SharedTile<Element, kQueries, kColumnsQk>;
  using GradientTile = SharedTile<Element, kQueries, kColumnsV>;  // of d_o
  using KeyTile = SharedTile<Element, kKeys, kColumnsQk>;
  using ValueTile = SharedTile<Element, kKeys, kColumnsV>;
  using ScoreTile = SharedTile<Element, kKeys, kQueries>;  // d_s^T
  static constexpr int kRowNumbers = 2 * kQueries * 4;     // reference and delta of a tile of queries
  static constexpr int kStageBytes = QueryTile::kBytes + GradientTile::kBytes + kRowNumbers;
  static constexpr int kSharedBytes = KeyTile::kBytes + ValueTile::kBytes + ScoreTile::kBytes + kStages * kStageBytes;
  static_assert(kQueries == 64 && kThreads == 2 * kQueries, "a thread copies one number of a row");

  __device__ Backward(const BackwardArguments& arguments, const typename Variant::Arguments& variant, unsigned shared)
      : arguments_(arguments),
        variant_(variant),
        shared_(shared),
        sequence_(blockIdx.z),
        kv_head_(blockIdx.y),
        shape_(arguments.sequences[blockIdx.z]) {}

  __device__ void run() {
    int tile = blockIdx.x;
    if constexpr (Config::kHasLists) {
      tile = row_of(arguments_.lists, sequence_, kv_head_ * arguments_.heads_per_kv, tile);
    }
    key_begin_ = tile * kKeys;
    if (key_begin_ >= shape_.keys) return;
    load_keys();
    d_k_.clear();
    d_v_.clear();
    for (int head = kv_head_ * arguments_.heads_per_kv; head < (kv_head_ + 1) * arguments_.heads_per_kv; ++head) {
      if constexpr (Config::kHasLists) {
        walk(ListWalk(arguments_.lists, sequence_, head, tile), head);
      } else {
        walk(AllTiles{(shape_.queries + kQueries - 1) / kQueries}, head);
      }
    }
    finish();
  }

 private:
  using Scores = Accumulator<1, kQueries / 8>;  // [keys, queries]
  struct Fragments {
    LeftFragment of[kQueries / 16];
  };

  __device__ int lane() const { return threadIdx.x % 32; }
  __device__ int warp_row() const { return threadIdx.x / 32 * 16; }

  __device__ KeyTile key_tile() const { return {shared_}; }
  __device__ ValueTile value_tile() const { return {shared_ + KeyTile::kBytes}; }
  __device__ ScoreTile score_tile() const { return {value_tile().address + ValueTile::kBytes}; }
  __device__ QueryTile query_tile(int stage) const {
    return {score_tile().address + ScoreTile::kBytes + stage * kStageBytes};
  }
  __device__ GradientTile gradient_tile(int stage) const { return {query_tile(stage).address + QueryTile::kBytes}; }
  __device__ unsigned row_numbers(int stage) const { return gradient_tile(stage).address + GradientTile::kBytes; }

  __device__ GlobalRows<Element> rows_of(const TensorView& view, int head, long long first_row, int begin,
                                         int end) const {
    const long long first = sequence_ * view.batch + head * view.head + first_row * view.row;
    return {static_cast<Element*>(view.data) + first, view.row, begin, end};
  }
  __device__ GlobalRows<Element> query_rows(const TensorView& view, int head) const {
    return rows_of(view, head, arguments_.queries_packed ? shape_.query_token : 0, 0, shape_.queries);
  }
  __device__ GlobalRows<Element> key_rows(const TensorView& view) const {
    return rows_of(view, kv_head_, arguments_.keys_packed ? shape_.key_token : 0, shape_.key_start, shape_.keys);
  }

  template <int kColumns, class Tile>
  __device__ void load(const Tile& tile, const GlobalRows<Element>& rows, int first) {
    const bool whole = first >= rows.begin && first + Tile::kTileRows <= rows.end;
    TileLoader<Tile, kThreads, kColumns, Config::kAligned, Element>(rows).start(tile, first, whole, rows.begin,
                                                                                rows.end);
  }

  __device__ void load_keys() {
    load<Config::kHeadQk>(key_tile(), key_rows(arguments_.k), key_begin_);
    load<Config::kHeadV>(value_tile(), key_rows(arguments_.v), key_begin_);
  }

  /// Row numbers of the workspace begin here for a head of this sequence.
  __device__ long long workspace_row(int head) const {
    return (static_cast<long long>(sequence_) * arguments_.h_q + head) * arguments_.s_q;
  }

  __device__ void start_loading(int head, int query_begin, int stage) {
    load<Config::kHeadQk>(query_tile(stage), query_rows(arguments_.q, head), query_begin);
    load<Config::kHeadV>(gradient_tile(stage), query_rows(arguments_.d_o, head), query_begin);
    const int row = threadIdx.x % kQueries;
    const float* numbers = (threadIdx.x < kQueries ? arguments_.reference : arguments_.delta) + workspace_row(head);
    const bool exists = query_begin + row < shape_.queries;
    copy_async_4(row_numbers(stage) + threadIdx.x * 4, numbers + (exists ? query_begin + row : 0), exists);
  }

  template <class Walk>
  __device__ void walk(const Walk& tiles, int head) {
    const int count = tiles.count();
    if (count == 0) return;
    __syncthreads();  // the stages and the place are free
    if (threadIdx.x == 0) place() = Variant::place_of(variant_, shape_, sequence_, head, kv_head_);
    start_loading(head, tiles.visit(0).tile() * kQueries, 0);
    commit_copies();
    for (int i = 0; i < count; ++i) {
      wait_for_copies<0>();
      __syncthreads();  // this tile is here, and all are done with the one before
      if (i + 1 < count) start_loading(head, tiles.visit(i + 1).tile() * kQueries, (i + 1) % 2);
      commit_copies();
      visit_tile(tiles.visit(i), head, i % 2);
    }
  }

  __device__ static typename Variant::Place& place() {
    __shared__ typename Variant::Place shared;
    return shared;
  }

  /// products[keys, queries] = a b^T with this warp's 16 rows of `a`.
  template <class Left, class Right>
  __device__ void multiply_transposed(Scores& products, const Left& a, const Right& b) {
    const auto left = LaneAddress<Left>::straight({a.address + warp_row() * Left::kRowBytes}, lane());
    const auto right = LaneAddress<Right>::transposed(b, lane());
    products.clear();
#pragma unroll
    for (int k = 0; k < Left::kTileColumns / 16; ++k) {
      const LeftFragment fragment = load_left(left, 0, 16 * k);
#pragma unroll
      for (int j = 0; j < kQueries / 16; ++j) {
        const RightFragment other = load_right_transposed(right, 16 * j, 16 * k);
        multiply_add(Element{}, products.x[0][2 * j], fragment, other.pairs[0]);
        multiply_add(Element{}, products.x[0][2 * j + 1], fragment, other.pairs[1]);
      }
    }
  }

  /// sums[keys, columns] += a b, with a in fragments.
  template <class Right, int kColumnBlocks>
  __device__ void add_product(Accumulator<1, kColumnBlocks>& sums, const Fragments& a, const Right& b) {
    const auto right = LaneAddress<Right>::straight(b, lane());
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) {
#pragma unroll
      for (int j = 0; j < kColumnBlocks / 2; ++j) {
        const RightFragment other = load_right(right, 16 * k, 16 * j);
        multiply_add(Element{}, sums.x[0][2 * j], a.of[k], other.pairs[0]);
        multiply_add(Element{}, sums.x[0][2 * j + 1], a.of[k], other.pairs[1]);
      }
    }
  }

  /// Rounded to Element: left operands.
  __device__ static Fragments fragments_of(const Scores& x) {
    Fragments made;
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) {
      const auto& near = x.x[0][2 * k];
      const auto& far = x.x[0][2 * k + 1];
      made.of[k] = {{packed(Element{}, near[0], near[1]), packed(Element{}, near[2], near[3]),
                     packed(Element{}, far[0], far[1]), packed(Element{}, far[2], far[3])}};
    }
    return made;
  }

  __device__ void visit_tile(const Visit& visit, int head, int stage) {
    const int query_begin = visit.tile() * kQueries;
    const bool is_partial = visit.is_partial() || query_begin + kQueries > shape_.queries ||
                            key_begin_ < shape_.key_start || key_begin_ + kKeys > shape_.keys;
    Scores p, slope, d_s, scores;
    multiply_transposed(p, key_tile(), query_tile(stage));
    if constexpr (Config::kHasGradients) scores = p;
    if (is_partial) {
      make_weights<true>(p, slope, query_begin, stage);
    } else {
      make_weights<false>(p, slope, query_begin, stage);
    }
    unsigned kept[Config::kHasDropout ? kQueries / 8 : 1];  // bit e of [j]: dropout keeps the weight [j][e]
    if constexpr (Config::kHasDropout) {
      draw(kept, query_begin, head);
      Scores dropped;
#pragma unroll
      for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) dropped.x[0][j][e] = kept[j] >> e & 1 ? p.x[0][j][e] : 0;
      }
      add_product(d_v_, fragments_of(dropped), gradient_tile(stage));
    } else {
      add_product(d_v_, fragments_of(p), gradient_tile(stage));
    }
    multiply_transposed(d_s, value_tile(), gradient_tile(stage));
    const unsigned deltas = row_numbers(stage) + kQueries * 4;
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float d_p = d_s.x[0][j][e];
        if constexpr (Config::kHasDropout) d_p = kept[j] >> e & 1 ? d_p * arguments_.dropout.scale : 0;
        float value = p.x[0][j][e] * (d_p - number_of(deltas, j, e));
        if constexpr (Config::kHasGradients) {
          if (p.x[0][j][e] != 0) add_gradients(arguments_.scale * scores.x[0][j][e], value, query_begin, j, e);
        }
        if constexpr (Variant::kChangesScores) value *= slope.x[0][j][e];
        d_s.x[0][j][e] = p.x[0][j][e] == 0 ? 0 : value;  // whatever else is infinite or NaN there
      }
    }
    const Fragments d_scores = fragments_of(d_s);
    add_product(d_k_, d_scores, query_tile(stage));
    if (arguments_.d_q.data == nullptr) return;
    store_scores(d_scores);
    __syncthreads();
    reduce_queries(query_begin, head);
  }

  /// What an entry gives to the gradients of tables and parameters, `d` being the loss's derivative by its last score.
  __device__ void add_gradients(float score, float d, int query_begin, int j, int e) const {
    const int query = query_begin + lane() % 4 * 2 + 8 * j + e % 2,
              key = key_begin_ + warp_row() + lane() / 4 + e / 2 * 8;
    GradientAdder adder(arguments_.gradients);
    Variant::add_gradients(variant_, place(), Variant::query_values(variant_, place(), query),
                           Variant::key_values(variant_, place(), key), query, key, score, d, adder);
  }

  /// The number of a lane's query in column block j, element e.
  __device__ float number_of(unsigned numbers, int j, int e) const {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];"
                 : "=f"(value)
                 : "r"(numbers + (8 * j + lane() % 4 * 2 + e % 2) * 4)
                 : "memory");
    return value;
  }

  /// Products turned into weights, and the variant's slopes.
  template <bool kPartial>
  __device__ void make_weights(Scores& p, Scores& slope, int query_begin, int stage) {
    const int first_key = key_begin_ + warp_row() + lane() / 4, first_query = query_begin + lane() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float score = arguments_.scale * p.x[0][j][e];
        float x = score;
        if constexpr (kPartial || Variant::kChangesScores) {
          const int query_index = first_query + 8 * j + e % 2, key_index = first_key + e / 2 * 8;
          const bool exists = query_index < shape_.queries && key_index >= shape_.key_start && key_index < shape_.keys;
          const auto scored =
              Variant::sloped_score(variant_, place(), Variant::query_values(variant_, place(), query_index),
                                    Variant::key_values(variant_, place(), key_index), query_index, key_index, score);
          x = exists ? scored.score : -infinity();
          slope.x[0][j][e] = scored.slope;
        }
        p.x[0][j][e] = exp2_of(fmaf(x, kLog2E, -number_of(row_numbers(stage), j, e)));
      }
    }
  }

  /// Which weights dropout keeps. A lane holds keys g and g + 8 of a block of 16, so two bytes of each query's block.
  __device__ void draw(unsigned* kept, int query_begin, int head) {
    const int head_index = sequence_ * arguments_.h_q + head, block = (key_begin_ + warp_row()) / 16, g = lane() / 4;
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
      kept[j] = 0;
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const int query = query_begin + 8 * j + lane() % 4 * 2 + column;
        const uint4 words =
            philox(make_uint4(block, query, head_index, arguments_.dropout.offset), arguments_.dropout.seed);
        const unsigned near = (g < 4 ? words.x : words.y) >> 8 * (g % 4) & 0xff;
        const unsigned far = (g < 4 ? words.z : words.w) >> 8 * (g % 4) & 0xff;
        kept[j] |= (near < arguments_.dropout.keep_below ? 1u : 0u) << column;
        kept[j] |= (far < arguments_.dropout.keep_below ? 1u : 0u) << (2 + column);
      }
    }
  }

  /// d_s^T, as fragments, to shared memory.
  __device__ void store_scores(const Fragments& d_scores) {
    const int row = warp_row() + lane() / 4, column = lane() % 4 * 2;
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        store_shared(score_tile().at(row + r % 2 * 8, 16 * k + r / 2 * 8 + column), d_scores.of[k].pairs[r]);
      }
    }
  }

  /// Adds d_s k to the sums of d_q: this warp's 16 queries, 64 columns at a time.
  __device__ void reduce_queries(int query_begin, int head) {
    constexpr int kChunk = kColumnsQk < 64 ? kColumnsQk : 64;
    const auto left = LaneAddress<ScoreTile>::transposed(score_tile(), lane());
    const auto right = LaneAddress<KeyTile>::straight(key_tile(), lane());
    const int query = query_begin + warp_row() + lane() / 4;
    float* sums = arguments_.d_q_sums + (workspace_row(head) + query) * Config::kHeadQk + lane() % 4 * 2;
#pragma unroll
    for (int chunk = 0; chunk < kColumnsQk; chunk += kChunk) {
      Accumulator<1, kChunk / 8> product;
      product.clear();
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k) {
        // moved() takes the warp's queries as columns: a multiple of 16, known at run time only.
        const LeftFragment a = load_left_transposed(left, 16 * k, warp_row());
#pragma unroll
        for (int j = 0; j < kChunk / 16; ++j) {
          if (chunk + 16 * j >= kColumnsQk) continue;
          const RightFragment b = load_right(right, 16 * k, chunk + 16 * j);
          multiply_add(Element{}, product.x[0][2 * j], a, b.pairs[0]);
          multiply_add(Element{}, product.x[0][2 * j + 1], a, b.pairs[1]);
        }
      }
#pragma unroll
      for (int j = 0; j < kChunk / 8; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int column = chunk + 8 * j;
          if (column >= Config::kHeadQk || query + 8 * half >= shape_.queries) continue;
          add_pair(sums + half * 8 * Config::kHeadQk + column, product.x[0][j][2 * half],
                   product.x[0][j][2 * half + 1]);
        }
      }
    }
  }

  __device__ static void add_pair(float* to, float low, float high) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(low), "f"(high) : "memory");
#else
    atomicAdd(to, low);
    atomicAdd(to + 1, high);
#endif
  }

  /// Writes d_k and d_v by way of the tiles of k and v.
  __device__ void finish() {
    commit_copies();
    wait_for_copies<0>();
    __syncthreads();
    store_sums(key_tile(), d_k_, arguments_.scale);
    float scale = 1;
    if constexpr (Config::kHasDropout) scale = arguments_.dropout.scale;
    store_sums(value_tile(), d_v_, scale);
    __syncthreads();
    store_keys<Config::kHeadQk>(key_tile(), arguments_.d_k);
    store_keys<Config::kHeadV>(value_tile(), arguments_.d_v);
  }

  /// Writes a tile of d_k or d_v, where it is wanted. Keys before key_start exist in it: their gradient is zero.
  template <int kColumns, class Tile>
  __device__ void store_keys(const Tile& tile, const TensorView& view) {
    if (view.data == nullptr) return;
    GlobalRows<Element> rows = key_rows(view);
    rows.begin = 0;
    store_tile<kThreads, kColumns, Config::kAligned>(tile, rows, key_begin_, threadIdx.x);
  }

  template <class Tile, int kColumnBlocks>
  __device__ void store_sums(const Tile& tile, const Accumulator<1, kColumnBlocks>& sums, float scale) {
#pragma unroll
    for (int j = 0; j < kColumnBlocks; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store_shared(tile.at(warp_row() + lane() / 4 + 8 * half, 8 * j + lane() % 4 * 2),
                     packed(Element{}, sums.x[0][j][2 * half] * scale, sums.x[0][j][2 * half + 1] * scale));
      }
    }
  }

  const BackwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  const unsigned shared_;
  const int sequence_, kv_head_;
  const SequenceShape& shape_;
  int key_begin_ = 0;
  Accumulator<1, kColumnsQk / 8> d_k_;
  Accumulator<1, kColumnsV / 8> d_v_;
};

/// What the backward pass needs of each query, a warp to a query: reference and delta; and zeros for the sums of d_q.
template <class Config, class Variant>
__device__ inline void prepare_backward(const BackwardArguments& a, const typename Variant::Arguments& variant) {
  using Element = typename Config::Element;
  const int query = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  if (query >= shape.queries) return;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  const auto at = [&](const TensorView& view) { return blockIdx.z * view.batch + head * view.head + row * view.row; };
  const auto* o = static_cast<const Element*>(a.o.data) + at(a.o);
  const auto* d_o = static_cast<const Element*>(a.d_o.data) + at(a.d_o);
  float sum = 0;
  for (int column = lane; column < Config::kHeadV; column += 32) sum += value_of(o[column]) * value_of(d_o[column]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  const long long place = (static_cast<long long>(blockIdx.z) * a.h_q + head) * a.s_q + query;
  if (lane == 0) {
    const float lse = static_cast<const float*>(a.lse.data)[at(a.lse)];
    const float d_lse = a.d_lse.data != nullptr ? static_cast<const float*>(a.d_lse.data)[at(a.d_lse)] : 0;
    a.reference[place] = lse == -infinity() ? infinity() : lse * kLog2E;
    a.delta[place] = sum - d_lse;
    if constexpr (Config::kHasGradients && Variant::kHasSink) {
      const auto of_head = Variant::place_of(variant, shape, blockIdx.z, head, head / a.heads_per_kv);
      // The sink is an entry whose value is 0.
      const float weight = exp2_of((Variant::sink_logit(variant, of_head) - lse) * kLog2E);
      GradientAdder adder(a.gradients);
      if (weight > 0) Variant::add_sink_gradients(variant, of_head, -weight * (sum - d_lse), adder);
    }
  }
  if (a.d_q.data == nullptr) return;
  for (int column = lane; column < Config::kHeadQk; column += 32) a.d_q_sums[place * Config::kHeadQk + column] = 0;
}

/// Rounds the sums of d_q, scaled, a warp to a query.
template <class Config>
__device__ inline void finish_backward(const BackwardArguments& a) {
  using Element = typename Config::Element;
  const int query = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  if (query >= shape.queries) return;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  auto* d_q = static_cast<Element*>(a.d_q.data) + blockIdx.z * a.d_q.batch + head * a.d_q.head + row * a.d_q.row;
  const long long place = (static_cast<long long>(blockIdx.z) * a.h_q + head) * a.s_q + query;
  for (int column = lane; column < Config::kHeadQk; column += 32) {
    d_q[column].bits = static_cast<unsigned short>(
        packed(Element{}, a.d_q_sums[place * Config::kHeadQk + column] * a.scale, 0.0f) & 0xffffu);
  }
}

}  // namespace tilewise::cuda

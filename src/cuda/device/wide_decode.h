// Decoding with head dimensions beyond 256, as of latent attention: many heads against one cache of 576 columns, whose
// first 512 are the values.
#pragma once

#include "conditional.h"
#include "decode_rows.h"
#include "products.h"

namespace tilewise::cuda {

/// 16 to 64 rows against a tile of keys at a time. All warps of a block share the scores of a tile, and then the
/// output, whose columns would not fit into the registers of fewer; weights go from the one to the other by shared
/// memory.
///
/// Config has what DecodeRows asks for, and
///   kStages           tiles of keys and values in shared memory: at hand, next, and on their way
///   kValuesInKeys     v is the first columns of k, and is not read again
///   kScoreRowWarps, kOutputRowWarps   warps one above the other in a tile of scores, and in the output
template <class Config, class Variant>
class WideDecode : DecodeRows<Config, Variant> {
  using Rows = DecodeRows<Config, Variant>;
  using Rows::first_row_, Rows::rows, Rows::lane, Rows::warp, Rows::a_, Rows::f_;

 public:
  using Element = typename Config::Element;
  static constexpr int kWarps = 8, kThreads = 32 * kWarps, kRows = Config::kRows, kKeys = Config::kKeys,
                       kStages = Config::kStages;
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using QueryTile = SharedTile<Element, kRows, kColumnsQk>;
  using KeyTile = SharedTile<Element, kKeys, kColumnsQk>;
  using OwnValueTile = SharedTile<Element, kKeys, kColumnsV>;
  using ValueTile = Conditional<Config::kValuesInKeys, KeyTile, OwnValueTile>;
  using WeightTile = SharedTile<Element, kRows, kKeys>;
  using ScoreGrid = WarpGrid<kRows / 16, kKeys / 16, Config::kScoreRowWarps, kWarps / Config::kScoreRowWarps>;
  using OutputGrid = WarpGrid<kRows / 16, kColumnsV / 16, Config::kOutputRowWarps, kWarps / Config::kOutputRowWarps>;
  static constexpr int kScoreWarps = kWarps / Config::kScoreRowWarps;  // side by side
  static_assert(ScoreGrid::kEven || ScoreGrid::kColumns == 1, "a warp has all of its scores, or none");
  static constexpr int kStageBytes = KeyTile::kBytes + (Config::kValuesInKeys ? 0 : OwnValueTile::kBytes);
  static constexpr int kInputBytes = QueryTile::kBytes + kStages * kStageBytes + WeightTile::kBytes;
  static constexpr int kSumBytes = kRows * kColumnsV * 4;  // takes the inputs' place in the end
  static constexpr int kSharedBytes = kInputBytes > kSumBytes ? kInputBytes : kSumBytes;

  __device__ WideDecode(const DecodeArguments& arguments, const typename Variant::Arguments& variant,
                        unsigned char* shared)
      : Rows(arguments, variant),
        shared_memory_(shared),
        shared_(static_cast<unsigned>(__cvta_generic_to_shared(shared))) {}

  __device__ void run() {
    if (first_row_ >= rows()) return;
    const auto tiles = Rows::tiles_of(f_, this->shape_, this->sequence_, this->kv_head_ * f_.heads_per_kv);
    const int splits = Rows::splits_of(tiles.count(), a_.splits);
    if (static_cast<int>(blockIdx.x) >= splits) return;
    this->prepare_rows();
    start_loading_queries();
    o_.clear();
#pragma unroll
    for (int i = 0; i < ScoreGrid::kRows; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) base_[i][half] = kNoBase, sum_[i][half] = 0;
    }
    walk(tiles, splits);
    finish();
  }

 private:
  using Scores = typename ScoreGrid::Sums;

  /// What warps tell each other of rows.
  struct Exchange {
    float largest[kScoreWarps][kRows];  // of a tile's scores, by the warps side by side
    float rescale[kRows];               // what the output so far is multiplied with
    float base[kRows];                  // in the end, in log2 units
    float sums[kScoreWarps][kRows];     // likewise, parts of the weights' sums
  };
  __device__ static Exchange& exchange() {
    __shared__ Exchange shared;
    return shared;
  }

  __device__ QueryTile query_tile() const { return {shared_}; }
  __device__ WeightTile weight_tile() const { return {shared_ + QueryTile::kBytes}; }
  __device__ KeyTile key_tile(int stage) const {
    return {shared_ + QueryTile::kBytes + WeightTile::kBytes + stage * kStageBytes};
  }
  __device__ ValueTile value_tile(int stage) const {
    return {key_tile(stage).address + (Config::kValuesInKeys ? 0 : KeyTile::kBytes)};
  }
  /// Whether this warp has scores of a tile.
  __device__ static bool has_scores() { return ScoreGrid::has(warp(), 0); }
  __device__ static int score_column() { return warp() / Config::kScoreRowWarps; }

  __device__ void start_loading_queries() const {
    constexpr int kChunks = kColumnsQk / QueryTile::kChunk;
    for (int chunk = threadIdx.x; chunk < kRows * kChunks; chunk += kThreads) {
      const int row = chunk / kChunks, column = chunk % kChunks * QueryTile::kChunk;
      const bool exists = first_row_ + row < rows() && column < Config::kHeadQk;
      copy_async(query_tile().at(row, column), exists ? this->query_data(row) + column : this->query_data(0), exists);
    }
  }

  __device__ void start_loading(const Visit& visit, int stage) const {
    const int first = visit.tile() * kKeys;
    Rows::template load<kThreads, Config::kHeadQk>(key_tile(stage), f_.k, first, threadIdx.x);
    if constexpr (!Config::kValuesInKeys)
      Rows::template load<kThreads, Config::kHeadV>(value_tile(stage), f_.v, first, threadIdx.x);
  }

  /// This split's share of the tiles, the same number for each but for one.
  template <class Walk>
  __device__ void walk(const Walk& tiles, int splits) {
    const long long count = tiles.count(), split = blockIdx.x;
    const int begin = count * split / splits, end = count * (split + 1) / splits;
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      if (begin + i < end) start_loading(tiles.visit(begin + i), i);
      commit_copies();  // the first group holds the queries too
    }
    wait_for_copies<kStages - 2>();
    __syncthreads();  // the first tile is here for all threads
    Scores s;
    float factor = begin < end ? make_scores(s, tiles.visit(begin), 0) : 0;
    int stage = 0;
    for (int i = begin; i < end; ++i) {
      const int next = stage == kStages - 1 ? 0 : stage + 1, last = stage == 0 ? kStages - 1 : stage - 1;
      __syncthreads();  // the largest scores are known, and all are done with the tile before
      if (i + kStages - 1 < end) start_loading(tiles.visit(i + kStages - 1), last);
      commit_copies();
      if (has_scores()) make_weights(s, factor);
      wait_for_copies<kStages - 2>();
      __syncthreads();  // the weights are there, and the next tile
      rescale_output();
      // The next tile's products keep the tensor cores busy together with this one's.
      if (i + 1 < end) multiply_queries_by_keys(s, next);
      add_weights_times_values(stage);
      if (i + 1 < end) factor = score_and_tell(s, tiles.visit(i + 1));
      stage = next;
    }
    wait_for_copies<0>();
  }

  /// Scores of a tile whose largest ones are told to the other warps; returns their factor to log2 units.
  __device__ float make_scores(Scores& s, const Visit& visit, int stage) const {
    multiply_queries_by_keys(s, stage);
    return score_and_tell(s, visit);
  }
  __device__ float score_and_tell(Scores& s, const Visit& visit) const {
    if (!has_scores()) return 0;
    const float factor = visit.is_partial() ? score<true>(s, visit) : score<false>(s, visit);
    tell_largest(s, factor);
    return factor;
  }

  __device__ void add_weights_times_values(int stage) {
    const auto left = LaneAddress<WeightTile>::left(
        {weight_tile().address + OutputGrid::row(warp()) * WeightTile::kRowBytes}, lane());
    const auto right = LaneAddress<ValueTile>::right(value_tile(stage), lane());
    const int first = OutputGrid::column(warp());
    multiply<kKeys / 16>(
        Element{}, o_, [&](int k, int i) { return load_left(left, 16 * i, 16 * k); },
        [&](int k, int j) { return load_right(right, 16 * k, first + 16 * j); },
        [&](int j) { return OutputGrid::has(warp(), j); });
  }

  /// Two sums take turns: a warp has so few products at each step that one would wait for the one before.
  __device__ void multiply_queries_by_keys(Scores& s, int stage) const {
    if (!has_scores()) return;
    const auto left =
        LaneAddress<QueryTile>::left({query_tile().address + ScoreGrid::row(warp()) * QueryTile::kRowBytes}, lane());
    const auto right = LaneAddress<KeyTile>::right_transposed(
        {key_tile(stage).address + ScoreGrid::column(warp()) * KeyTile::kRowBytes}, lane());
    Scores sums[2];
    sums[0].clear();
    sums[1].clear();
    // So many steps at a time: all of them unrolled would not fit into the instruction cache. They are whole lines of a
    // row in shared memory, so that addresses within them are constants.
    constexpr int kSteps = kColumnsQk / 16, kAtOnce = kSteps % 12 == 0 ? 12 : kSteps % 8 == 0 ? 8 : kSteps;
#pragma unroll 1
    for (int step = 0; step < kSteps; step += kAtOnce) {
      const auto queries = left.plus(step * 16 * sizeof(Element));
      const auto keys = right.plus(step * 16 * sizeof(Element));
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
        for (int j = 0; j < ScoreGrid::kColumns; ++j) {
          const RightOf<Element> b = load_right_transposed(keys, 16 * j, 16 * k);
#pragma unroll
          for (int i = 0; i < ScoreGrid::kRows; ++i) {
            const LeftOf<Element> a = load_left(queries, 16 * i, 16 * k);
            multiply_add(Element{}, sums[k % 2].x[i][2 * j], a, b.pairs[0]);
            multiply_add(Element{}, sums[k % 2].x[i][2 * j + 1], a, b.pairs[1]);
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < ScoreGrid::kRows; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * ScoreGrid::kColumns; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) s.x[i][j][e] = sums[0].x[i][j][e] + sums[1].x[i][j][e];
      }
    }
  }

  /// Products turned into scores; returns their factor to log2 units.
  template <bool kPartial>
  __device__ float score(Scores& s, const Visit& visit) const {
    if constexpr (!kPartial && !Variant::kChangesScores) {
      return f_.scale * kLog2E;
    } else {
      const int first_key = visit.tile() * kKeys + ScoreGrid::column(warp()) + lane() % 4 * 2;
#pragma unroll
      for (int i = 0; i < ScoreGrid::kRows; ++i) {
#pragma unroll
        for (int j = 0; j < 2 * ScoreGrid::kColumns; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int row = ScoreGrid::row(warp()) + 16 * i + e / 2 * 8 + lane() / 4;
            s.x[i][j][e] = Rows::template score_of<kPartial>(row, first_key + 8 * j + e % 2, s.x[i][j][e]);
          }
        }
      }
      return kLog2E;
    }
  }

  __device__ void tell_largest(const Scores& s, float factor) const {
#pragma unroll
    for (int i = 0; i < ScoreGrid::kRows; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = -infinity();
#pragma unroll
        for (int j = 0; j < 2 * ScoreGrid::kColumns; ++j)
          largest = fmaxf(largest, fmaxf(factor * s.x[i][j][2 * half], factor * s.x[i][j][2 * half + 1]));
        largest = largest_of_row(largest);
        if (lane() % 4 == 0) exchange().largest[score_column()][row_of_lane(i, half)] = largest;
      }
    }
  }
  __device__ static int row_of_lane(int i, int half) { return ScoreGrid::row(warp()) + 16 * i + 8 * half + lane() / 4; }

  /// Weights against the rows' largest scores so far, to shared memory, and what that rescales the output by.
  __device__ void make_weights(const Scores& s, float factor) {
    constexpr int kTelling = ScoreGrid::kEven ? kScoreWarps : kKeys / 16;  // warps side by side that have scores
#pragma unroll
    for (int i = 0; i < ScoreGrid::kRows; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of_lane(i, half);
        float next = base_[i][half];
#pragma unroll
        for (int w = 0; w < kTelling; ++w) next = fmaxf(next, exchange().largest[w][row]);
        const float rescale = exp2_of(base_[i][half] - next);
        base_[i][half] = next;
        float sum = sum_[i][half] * rescale;
#pragma unroll
        for (int j = 0; j < 2 * ScoreGrid::kColumns; ++j) {
          const float low = exp2_of(fmaf(s.x[i][j][2 * half], factor, -next));
          const float high = exp2_of(fmaf(s.x[i][j][2 * half + 1], factor, -next));
          sum += low;
          sum += high;
          store_pair(weight_tile().at(row, ScoreGrid::column(warp()) + 8 * j + lane() % 4 * 2), Element{}, low, high);
        }
        sum_[i][half] = sum;
        if (score_column() == 0 && lane() % 4 == 0) exchange().rescale[row] = rescale;
      }
    }
  }

  __device__ void rescale_output() {
#pragma unroll
    for (int i = 0; i < OutputGrid::kRows; ++i) {
      const int row = OutputGrid::row(warp()) + 16 * i + lane() / 4;
      const float near = exchange().rescale[row], far = exchange().rescale[row + 8];
      if (__all_sync(~0u, near == 1 && far == 1)) continue;  // as nearly always
#pragma unroll
      for (int j = 0; j < 2 * OutputGrid::kColumns; ++j) {
        o_.x[i][j][0] *= near, o_.x[i][j][1] *= near;
        o_.x[i][j][2] *= far, o_.x[i][j][3] *= far;
      }
    }
  }

  /// Writes this split's result, or, where it is the only one, the answer.
  __device__ void finish() {
    auto* const outputs = reinterpret_cast<float*>(shared_memory_);  // [kRows, kColumnsV]
    __syncthreads();  // all are done with the tiles, whose place the output takes
    if (has_scores()) {
#pragma unroll
      for (int i = 0; i < ScoreGrid::kRows; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float sum = sum_of_row(sum_[i][half]);
          if (lane() % 4 != 0) continue;
          exchange().sums[score_column()][row_of_lane(i, half)] = sum;
          if (score_column() == 0) exchange().base[row_of_lane(i, half)] = base_[i][half];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < OutputGrid::kRows; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * OutputGrid::kColumns; ++j) {
        if (!OutputGrid::has(warp(), j / 2)) continue;
        float* to = outputs + (OutputGrid::row(warp()) + 16 * i + lane() / 4) * kColumnsV + OutputGrid::column(warp()) +
                    8 * j + lane() % 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(o_.x[i][j][0], o_.x[i][j][1]);
        *reinterpret_cast<float2*>(to + 8 * kColumnsV) = make_float2(o_.x[i][j][2], o_.x[i][j][3]);
      }
    }
    __syncthreads();
    constexpr int kTelling = ScoreGrid::kEven ? kScoreWarps : kKeys / 16;
    const int existing = rows() - first_row_ < kRows ? rows() - first_row_ : kRows;
    for (int row = warp(); row < existing; row += kWarps) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kTelling; ++w) sum += exchange().sums[w][row];
      this->write_row(row, exchange().base[row], sum, [&](int column) { return outputs[row * kColumnsV + column]; });
    }
  }

  unsigned char* const shared_memory_;
  const unsigned shared_;
  float base_[ScoreGrid::kRows][2];  // in log2 units, or kNoBase
  float sum_[ScoreGrid::kRows][2];   // this lane's part of the sum of the weights
  typename OutputGrid::Sums o_;
};

}  // namespace tilewise::cuda

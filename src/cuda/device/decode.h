// Decoding: few queries against many keys. The queries of all heads that share a key head are rows of one tile, and the
// keys are split among blocks; partial results are merged in the end.
#pragma once

#include "arguments.h"
#include "copy.h"
#include "mma.h"
#include "scores.h"
#include "softmax.h"
#include "walk.h"

namespace tilewise::cuda {

/// One (split of the keys, key head and 16 rows, sequence). Row r is query r / group of the group's head r % group.
///
/// Each warp takes 16 keys of every tile, with copies, scores and sums of its own: warps meet in the end alone, so the
/// memory's latency is hidden by kStages tiles of each warp on their way.
///
/// Config has Element, kHeadQk, kHeadV, kStages, kHasLists, kPaged.
template <class Config, class Variant>
class Decode {
 public:
  using Element = typename Config::Element;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16, kWarpKeys = 16, kKeys = kWarps * kWarpKeys;
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using KeyTile = SharedTile<Element, kWarpKeys, kColumnsQk>;
  using ValueTile = SharedTile<Element, kWarpKeys, kColumnsV>;
  static constexpr int kStageBytes = KeyTile::kBytes + ValueTile::kBytes;
  static constexpr int kInputBytes = kWarps * Config::kStages * kStageBytes;
  static constexpr int kSumBytes = kWarps * kRows * kColumnsV * 4;  // takes the inputs' place in the end
  static constexpr int kSharedBytes = kInputBytes > kSumBytes ? kInputBytes : kSumBytes;

  __device__ Decode(const DecodeArguments& arguments, const typename Variant::Arguments& variant, unsigned char* shared)
      : a_(arguments),
        f_(arguments.forward),
        variant_(variant),
        shared_memory_(shared),
        shared_(static_cast<unsigned>(__cvta_generic_to_shared(shared))),
        sequence_(blockIdx.z),
        kv_head_(blockIdx.y / arguments.row_tiles),
        first_row_(blockIdx.y % arguments.row_tiles * kRows),
        shape_(f_.sequences[blockIdx.z]),
        key_fragments_(LaneAddress<KeyTile>::transposed(key_tile(0), lane())),
        value_fragments_(LaneAddress<ValueTile>::straight(value_tile(0), lane())) {}

  __device__ void run() {
    if (first_row_ >= rows()) return;
    prepare_rows();
    load_queries();
    __syncthreads();
    o_.clear();
    statistics_.clear(first_row_ + lane() / 4, rows());
    if constexpr (Config::kHasLists) {
      walk(ListWalk(f_.lists, sequence_, kv_head_ * f_.heads_per_kv, 0));
    } else {
      walk(DenseWalk(shape_, kKeys));
    }
    finish();
  }

 private:
  struct Row {
    typename Variant::Place place;
    typename Variant::Query query;
    int index;  // of the query
  };

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int warp() { return threadIdx.x / 32; }
  __device__ int rows() const { return f_.heads_per_kv * shape_.queries; }
  __device__ int query_of(int row) const { return (first_row_ + row) / f_.heads_per_kv; }
  __device__ int head_of(int row) const { return kv_head_ * f_.heads_per_kv + (first_row_ + row) % f_.heads_per_kv; }

  __device__ static Row* shared_rows() {
    __shared__ Row rows[kRows];
    return rows;
  }

  __device__ void prepare_rows() {
    const int row = threadIdx.x;
    if (row >= kRows || first_row_ + row >= rows()) return;
    Row& made = shared_rows()[row];
    made.place = Variant::place_of(variant_, shape_, sequence_, head_of(row), kv_head_);
    made.index = query_of(row);
    made.query = Variant::query_values(variant_, made.place, made.index);
  }

  /// Left operands straight from memory: it is read once, and little.
  __device__ void load_queries() {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int row = lane() / 4 + r % 2 * 8;
      const bool exists = first_row_ + row < rows();
      const long long first = f_.queries_packed ? shape_.query_token : 0;
      const Element* from = static_cast<const Element*>(f_.q.data);
      if (exists) from += sequence_ * f_.q.batch + head_of(row) * f_.q.head + (first + query_of(row)) * f_.q.row;
#pragma unroll
      for (int k = 0; k < kColumnsQk / 16; ++k) {
        const int column = 16 * k + r / 2 * 8 + lane() % 4 * 2;
        q_[k].pairs[r] = exists && column < Config::kHeadQk ? *reinterpret_cast<const unsigned*>(from + column) : 0;
      }
    }
  }

  __device__ KeyTile key_tile(int stage) const { return {shared_ + (warp() * Config::kStages + stage) * kStageBytes}; }
  __device__ ValueTile value_tile(int stage) const { return {key_tile(stage).address + KeyTile::kBytes}; }

  template <int kColumns, class Tile>
  __device__ void load(const Tile& tile, const TensorView& view, int first) const {
    const Element* data = static_cast<const Element*>(view.data) + kv_head_ * view.head;
    if constexpr (Config::kPaged) {
      const PagedRows rows{f_.pages, f_.pages.table + sequence_ * f_.pages.sequence, view.batch, view.row};
      PagedLoader<Tile, 32, kColumns, true, Element>(data, rows)
          .start(tile, first, shape_.key_start, shape_.keys, lane());
    } else {
      data += sequence_ * view.batch + (f_.keys_packed ? shape_.key_token : 0) * view.row;
      constexpr int kChunks = Tile::kTileColumns / 8;
#pragma unroll
      for (int chunk = lane(); chunk < kWarpKeys * kChunks; chunk += 32) {
        const int row = chunk / kChunks, column = chunk % kChunks * 8, index = first + row;
        const bool exists = column < kColumns && index >= shape_.key_start && index < shape_.keys;
        copy_async(tile.at(row, column), exists ? data + index * view.row + column : data, exists);
      }
    }
  }

  __device__ void start_loading(const Visit& visit, int stage) const {
    const int first = visit.tile() * kKeys + warp() * kWarpKeys;
    load<Config::kHeadQk>(key_tile(stage), f_.k, first);
    load<Config::kHeadV>(value_tile(stage), f_.v, first);
  }

  /// This split's share of the tiles, the same number for each but for one.
  template <class Walk>
  __device__ void walk(const Walk& tiles) {
    const long long count = tiles.count(), split = blockIdx.x;
    const int begin = count * split / a_.splits, end = count * (split + 1) / a_.splits;
#pragma unroll
    for (int i = 0; i < Config::kStages - 1; ++i) {
      if (begin + i < end) start_loading(tiles.visit(begin + i), i);
      commit_copies();
    }
    int stage = 0;
    for (int i = begin; i < end; ++i) {
      wait_for_copies<Config::kStages - 2>();
      __syncwarp();  // the tile is here for all lanes, and all are done with the one before
      const int ahead = i + Config::kStages - 1, next = stage == 0 ? Config::kStages - 1 : stage - 1;
      if (ahead < end) start_loading(tiles.visit(ahead), next);
      commit_copies();
      visit_tile(tiles.visit(i), stage);
      stage = stage == Config::kStages - 1 ? 0 : stage + 1;
    }
    wait_for_copies<0>();
  }

  using Scores = Accumulator<1, kWarpKeys / 8>;

  __device__ void visit_tile(const Visit& visit, int stage) {
    Scores s;
    s.clear();
    const auto keys = key_fragments_.plus(stage * kStageBytes);
#pragma unroll
    for (int k = 0; k < kColumnsQk / 16; ++k) {
      const RightFragment b = load_right_transposed(keys, 0, 16 * k);
      multiply_add(Element{}, s.x[0][0], q_[k], b.pairs[0]);
      multiply_add(Element{}, s.x[0][1], q_[k], b.pairs[1]);
    }
    const int first_key = visit.tile() * kKeys + warp() * kWarpKeys + lane() % 4 * 2;
    const float factor = visit.is_partial() ? score<true>(s, first_key) : score<false>(s, first_key);
    if (!statistics_.all_based()) statistics_.rebase(s, factor, o_);
    Weights<Element, 1, kWarpKeys / 8> weights;
    weights.make(s, factor, statistics_);
    if (weights.outgrown()) {
      statistics_.rebase(s, factor, o_);
      weights = Weights<Element, 1, kWarpKeys / 8>();
      weights.make(s, factor, statistics_);
    }
    weights.add_sums_to(statistics_);
    const auto values = value_fragments_.plus(stage * kStageBytes);
#pragma unroll
    for (int j = 0; j < kColumnsV / 16; ++j) {
      const RightFragment b = load_right(values, 0, 16 * j);
      multiply_add(Element{}, o_.x[0][2 * j], weights.fragments[0][0], b.pairs[0]);
      multiply_add(Element{}, o_.x[0][2 * j + 1], weights.fragments[0][0], b.pairs[1]);
    }
  }

  /// Products turned into scores; returns their factor to log2 units.
  template <bool kPartial>
  __device__ float score(Scores& s, int first_key) const {
    if constexpr (!kPartial && !Variant::kChangesScores) {
      return f_.scale * kLog2E;
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int number = lane() / 4 + 8 * half;
        const bool has_row = first_row_ + number < rows();
        const Row& row = shared_rows()[has_row ? number : 0];
#pragma unroll
        for (int e = 0; e < kWarpKeys / 4; ++e) {
          const int key = first_key + e / 2 * 8 + e % 2;
          float& x = s.x[0][e / 2][2 * half + e % 2];
          const auto key_values = Variant::key_values(variant_, row.place, key);
          const float score = f_.scale * x;
          if constexpr (kPartial) {
            const bool exists = has_row && key >= shape_.key_start && key < shape_.keys;
            x = exists ? Variant::partial_score(variant_, row.place, row.query, key_values, row.index, key, score)
                       : -infinity();
          } else {
            x = Variant::full_score(variant_, row.place, row.query, key_values, row.index, key, score);
          }
        }
      }
      return kLog2E;
    }
  }

  /// Merges the warps' sums, and writes this split's result, or, where it is the only one, the answer.
  __device__ void finish() {
    __shared__ float bases[kWarps][kRows], sums[kWarps][kRows];
    auto* const parts = reinterpret_cast<float*>(shared_memory_);  // [kWarps, kRows, kColumnsV]
    __syncthreads();  // all are done with the tiles, whose place the sums take
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane() / 4 + 8 * half;
      const float sum = sum_of_row(statistics_.sum[0][half]);
      if (lane() % 4 == 0) bases[warp()][row] = statistics_.base[0][half], sums[warp()][row] = sum;
      float* part = parts + (warp() * kRows + row) * kColumnsV + lane() % 4 * 2;
#pragma unroll
      for (int j = 0; j < kColumnsV / 8; ++j) {
        *reinterpret_cast<float2*>(part + 8 * j) = make_float2(o_.x[0][j][2 * half], o_.x[0][j][2 * half + 1]);
      }
    }
    __syncthreads();
    const int existing = rows() - first_row_ < kRows ? rows() - first_row_ : kRows;
    for (int row = warp(); row < existing; row += kWarps) {
      float base = bases[0][row], sum = 0;
#pragma unroll
      for (int w = 1; w < kWarps; ++w) base = fmaxf(base, bases[w][row]);
      float shares[kWarps];
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        shares[w] = exp2_of(bases[w][row] - base);
        sum += sums[w][row] * shares[w];
      }
      write_row(row, base, sum, [&](int column) {
        float value = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) value += parts[(w * kRows + row) * kColumnsV + column] * shares[w];
        return value;
      });
    }
  }

  /// Writes a row, of which `value_of(column)` are the weighted sums, by a warp.
  template <class ValueOf>
  __device__ void write_row(int row, float base, float sum, ValueOf value_of) const {
    const int query = query_of(row), head = head_of(row);
    if (a_.splits > 1) {
      const long long place =
          ((static_cast<long long>(sequence_) * a_.h_q + head) * a_.s_q + query) * a_.splits + blockIdx.x;
      const float multiplier = sum == 0 ? 0 : 1 / sum;
      for (int column = lane(); column < Config::kHeadV; column += 32)
        a_.o[place * Config::kHeadV + column] = value_of(column) * multiplier;
      if (lane() == 0) a_.lse[place] = base + log2f(sum);
      return;
    }
    float multiplier = 1;
    if constexpr (Variant::kHasSink) {
      const float sink = Variant::sink_logit(variant_, shared_rows()[row].place) * kLog2E;
      const float joint = fmaxf(base, sink);
      multiplier = exp2_of(base - joint);
      sum = sum * multiplier + exp2_of(sink - joint);
      base = joint;
    }
    multiplier = sum == 0 ? 0 : multiplier / sum;
    write_answer(f_, shape_, sequence_, head, query, lane(), 32, (base + log2f(sum)) * kLn2,
                 [&](int column) { return value_of(column) * multiplier; });
  }

 public:
  /// Writes o and lse of a query, by `threads` threads.
  template <class Values>
  __device__ static void write_answer(const ForwardArguments& f, const SequenceShape& shape, int sequence, int head,
                                      int query, int thread, int threads, float lse, Values values) {
    const long long row = query + (f.queries_packed ? shape.query_token : 0);
    auto* o = static_cast<Element*>(f.o.data) + sequence * f.o.batch + head * f.o.head + row * f.o.row;
    for (int column = thread; column < Config::kHeadV; column += threads)
      o[column].bits = static_cast<unsigned short>(packed(Element{}, values(column), 0.0f) & 0xffffu);
    if (thread == 0 && f.lse.data != nullptr)
      static_cast<float*>(f.lse.data)[sequence * f.lse.batch + head * f.lse.head + row * f.lse.row] = lse;
  }

 private:
  const DecodeArguments& a_;
  const ForwardArguments& f_;
  const typename Variant::Arguments& variant_;
  unsigned char* const shared_memory_;
  const unsigned shared_;
  const int sequence_, kv_head_, first_row_;
  const SequenceShape& shape_;
  const LaneAddress<KeyTile> key_fragments_;
  const LaneAddress<ValueTile> value_fragments_;
  LeftFragment q_[kColumnsQk / 16];
  RowStatistics<1> statistics_;
  Accumulator<1, kColumnsV / 8> o_;
};

/// Merges the splits of a query, a block to each: (query, head, sequence). The same merge as the host's: of partial
/// results o with their lse, the sink last.
template <class Config, class Variant>
__device__ inline void merge_splits(const DecodeArguments& a, const typename Variant::Arguments& variant) {
  const ForwardArguments& f = a.forward;
  const int query = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z;
  const SequenceShape& shape = f.sequences[sequence];
  if (query >= shape.queries) return;
  const long long first = ((static_cast<long long>(sequence) * a.h_q + head) * a.s_q + query) * a.splits;
  const float* lse = a.lse + first;
  float base = kNoBase;
  for (int i = 0; i < a.splits; ++i) base = fmaxf(base, lse[i]);
  float sum = 0;
  if constexpr (Variant::kHasSink) {
    const auto place = Variant::place_of(variant, shape, sequence, head, head / f.heads_per_kv);
    const float sink = Variant::sink_logit(variant, place) * kLog2E;
    base = fmaxf(base, sink);
    sum = exp2_of(sink - base);
  }
  for (int i = 0; i < a.splits; ++i) sum += exp2_of(lse[i] - base);
  const float multiplier = sum == 0 ? 0 : 1 / sum;
  Decode<Config, Variant>::write_answer(
      f, shape, sequence, head, query, threadIdx.x, blockDim.x, (base + log2f(sum)) * kLn2, [&](int column) {
        float value = 0;
        for (int i = 0; i < a.splits; ++i) value += a.o[(first + i) * Config::kHeadV + column] * exp2_of(lse[i] - base);
        return value * multiplier;
      });
}

}  // namespace tilewise::cuda

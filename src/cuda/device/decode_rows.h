// What kernels for few queries have in common: the rows of a block, how keys are split, and where results go.
#pragma once

#include "arguments.h"
#include "copy.h"
#include "merge.h"
#include "scores.h"
#include "softmax.h"
#include "walk.h"

namespace tilewise::cuda {

/// Of all sequences alike it came with the launch: nothing had to write it first. By value, for registers: by a
/// reference to either of the two it is read from memory, and again where it is used.
__device__ inline SequenceShape sequence_shape(const DecodeArguments& a, int sequence) {
  if (a.forward.sequences != nullptr) return a.forward.sequences[sequence];
  return a.alike;
}

/// The rows of one (split of the keys, key head and kRows rows, sequence): row r is query r / group of the group's head
/// r % group, from first_row on.
///
/// Config has Element, kHeadQk, kHeadV, kRows, kKeys (of a tile), kHasLists, kPaged.
template <class Config, class Variant>
class DecodeRows {
 public:
  using Element = typename Config::Element;
  static constexpr int kRows = Config::kRows, kKeys = Config::kKeys;

  __device__ DecodeRows(const DecodeArguments& arguments, const typename Variant::Arguments& variant)
      : a_(arguments),
        f_(arguments.forward),
        variant_(variant),
        sequence_(blockIdx.z),
        kv_head_(blockIdx.y / arguments.row_tiles),
        first_row_(blockIdx.y % arguments.row_tiles * kRows),
        shape_(sequence_shape(arguments, blockIdx.z)) {}

  /// What the queries of a head walk over.
  __device__ static auto tiles_of(const ForwardArguments& f, const SequenceShape& shape, int sequence, int head) {
    if constexpr (Config::kHasLists) {
      return ListWalk(f.lists, sequence, head, 0);
    } else {
      return DenseWalk(shape, kKeys);
    }
  }

  /// Into how many parts so many tiles are split: at most `most`, each with at least kLeastTiles, beside which merging
  /// a result does not show. Lengths may be known here alone.
  static constexpr int kLeastTiles = 4;
  __device__ static int splits_of(int tiles, int most) {
    const int splits = tiles / kLeastTiles;
    return splits < 1 ? 1 : splits < most ? splits : most;
  }

 protected:
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
    made.place = Variant::place_of(variant_, shape_, sequence_, head_of(row), kv_head_, f_.scale);
    made.index = query_of(row);
    made.query = Variant::query_values(variant_, made.place, made.index);
  }

  /// Where a row's query begins.
  __device__ const Element* query_data(int row) const {
    const long long first = f_.queries_packed ? shape_.query_token : 0;
    return static_cast<const Element*>(f_.q.data) + sequence_ * f_.q.batch + head_of(row) * f_.q.head +
           (first + query_of(row)) * f_.q.row;
  }

  /// Row 0 of k or v; of pages, of page 0.
  __device__ const Element* first_row_of(const TensorView& view) const {
    const Element* const of_head = static_cast<const Element*>(view.data) + kv_head_ * view.head;
    if constexpr (Config::kPaged) return of_head;
    return of_head + sequence_ * view.batch + (f_.keys_packed ? shape_.key_token : 0) * view.row;
  }

  /// Starts copying rows [first, first + Tile::kTileRows) of k or v by kThreads threads, of which this is `thread`.
  /// Rows that do not exist become zeros.
  template <int kThreads, int kColumns, class Tile>
  __device__ void load(const Tile& tile, const TensorView& view, int first, int thread) const {
    if constexpr (Config::kPaged) {
      const PagedRows rows{f_.pages, f_.pages.table + sequence_ * f_.pages.sequence, view.batch, view.row};
      PagedLoader<Tile, kThreads, kColumns, true, Element>(first_row_of(view), rows)
          .start(tile, first, shape_.key_start, shape_.keys, thread);
    } else {
      const Element* const data = first_row_of(view);
      constexpr int kChunks = Tile::kTileColumns / Tile::kChunk;
      const int begin = shape_.key_start, end = shape_.keys;  // read but once, not by each copy
#pragma unroll
      for (int chunk = thread; chunk < Tile::kTileRows * kChunks; chunk += kThreads) {
        const int row = chunk / kChunks, column = chunk % kChunks * Tile::kChunk, index = first + row;
        const bool exists = column < kColumns && index >= begin && index < end;
        copy_async(tile.at(row, column), exists ? data + index * view.row + column : data, exists);
      }
    }
  }

  /// A product turned into a score, or -inf where the entry does not exist or is removed.
  template <bool kPartial>
  __device__ float score_of(int row, int key, float product) const {
    const bool has_row = first_row_ + row < rows();
    const Row& of = shared_rows()[has_row ? row : 0];
    const auto key_values = Variant::key_values(variant_, of.place, key);
    const float score = f_.scale * product;
    if constexpr (kPartial) {
      const bool exists = has_row && key >= shape_.key_start && key < shape_.keys;
      return exists ? Variant::partial_score(variant_, of.place, of.query, key_values, of.index, key, score)
                    : -infinity();
    } else {
      return Variant::full_score(variant_, of.place, of.query, key_values, of.index, key, score);
    }
  }

  /// Where a row's result over this block's split goes.
  __device__ long long part_of(int row) const {
    const long long rows_before = static_cast<long long>(sequence_) * a_.h_q + head_of(row);
    return (rows_before * a_.s_q + query_of(row)) * a_.splits + blockIdx.x;
  }

  /// Writes a row, of which `value_of(column)` are the weighted sums, by a warp.
  template <class ValueOf>
  __device__ void write_row(int row, float base, float sum, ValueOf value_of) const {
    const int query = query_of(row), head = head_of(row);
    if (a_.splits > 1) {
      const long long place = part_of(row);
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
    write_answer<Config>(f_, shape_, {sequence_, head, query}, lane(), 32, (base + log2f(sum)) * kLn2,
                         [&](int column) { return value_of(column) * multiplier; });
  }

  const DecodeArguments& a_;
  const ForwardArguments& f_;
  const typename Variant::Arguments& variant_;
  const int sequence_, kv_head_, first_row_;
  const SequenceShape shape_;
};

/// Up to so many parts of more than 256 columns one warp merges, and a block four queries: all parts are on their way
/// at once either way, and there is a quarter of the blocks, of which five are on a multiprocessor at a time.
inline constexpr int kPartsOfOneWarp = 4;

/// Merges the splits of a query, a block of four warps to each, or a warp: (query, head or four of them, sequence).
template <class Config, class Variant>
__device__ inline void merge_splits(const DecodeArguments& a, const typename Variant::Arguments& variant) {
  const ForwardArguments& f = a.forward;
  const bool by_warps = Config::kHeadV > 256 && a.splits <= kPartsOfOneWarp;
  const int query = blockIdx.x, head = by_warps ? blockIdx.y * 4 + threadIdx.x / 32 : blockIdx.y, sequence = blockIdx.z;
  const SequenceShape shape = sequence_shape(a, sequence);
  if (query >= shape.queries || head >= a.h_q) return;
  const int own_head = head / f.heads_per_kv * f.heads_per_kv;
  using Rows = DecodeRows<Config, Variant>;
  const int splits = Rows::splits_of(Rows::tiles_of(f, shape, sequence, own_head).count(), a.splits);
  const long long first = ((static_cast<long long>(sequence) * a.h_q + head) * a.s_q + query) * a.splits;
  const float *const o = a.o + first * Config::kHeadV, *const lse = a.lse + first;
  if constexpr (Config::kHeadV > 256) {
    if (by_warps) return merge_parts<Config, Variant, 1>(f, variant, shape, {sequence, head, query}, o, lse, splits);
  }
  merge_parts<Config, Variant, 4>(f, variant, shape, {sequence, head, query}, o, lse, splits);
}

}  // namespace tilewise::cuda

// A query tile of the portable forward kernel: where its rows lie, what has been summed up for them, and how that
// leaves.
#pragma once

#include "arguments.h"
#include "conditional.h"
#include "copy.h"
#include "forward_products.h"
#include "largest_score.h"
#include "merge.h"
#include "scores.h"
#include "softmax.h"
#include "store_rows.h"
#include "walk.h"

namespace tilewise::cuda {

/// Config is as Forward says.
template <class Config, class Variant>
class ForwardRows : public ForwardProducts<Config> {
  using Products = ForwardProducts<Config>;

 public:
  using Products::kQueryTile, Products::kThreads;
  using typename Products::Element;

 protected:
  using Products::first_row, Products::lane;
  using Products::kColumnsV;
  using typename Products::Output;

  __device__ ForwardRows(const ForwardArguments& arguments, const typename Variant::Arguments& variant, unsigned shared)
      : Products(shared),
        arguments_(arguments),
        variant_(variant),
        sequence_(blockIdx.z),
        shape_(arguments.sequences[blockIdx.z]) {}

  /// What is kept for tiles: by each warp for its own rows where tiles may be on lines, which then it alone asks about,
  /// and else by the block: of a score of twelve operations, whose tiles are none of them, each warp's own took 7%
  /// more.
  using ValuesOfBlock = TileScores<Variant, kQueryTile, Config::kKeyTile, kThreads>;
  using ValuesOfWarp = TileScores<Variant, Products::kRows, Config::kKeyTile, 32>;
  static constexpr bool kWarpsKeepOwn = ValuesOfBlock::kKnowsLines;
  using Values = Conditional<kWarpsKeepOwn, ValuesOfWarp, ValuesOfBlock>;

  __device__ static RowPart row_of_block(const TileLists& lists) {
    return row_part(lists, lists.parts, blockIdx.x, blockIdx.y, gridDim.x, gridDim.y);
  }
  /// The block's, for when it has tiles in its registers. Where warps keep values of their own it tells query_begin_
  /// too, which is short of a register at the end: without that T5's kernel took 2% more, ALiBi's with a causal mask
  /// 4%, clamped distances' at d 64 3%. At d 128 clamped distances took 2% more with it, and ALiBi 2%.
  struct RowWithQuery : RowPart {
    int query_begin;
  };
  static constexpr bool kIs128 = Config::kHeadQk == 128 && Config::kHeadV == 128;
  static constexpr bool kReadsQueryAgain = kWarpsKeepOwn && !(kIs128 && ValuesOfBlock::kTakesFewRegisters);
  using TakenRow = Conditional<kReadsQueryAgain, RowWithQuery, RowPart>;
  __device__ static TakenRow& taken_row() {
    __shared__ TakenRow shared;
    return shared;
  }
  __device__ static int head() { return taken_row().head; }
  /// Whether other blocks have other parts of the row's list.
  __device__ bool is_in_parts(const RowPart& row) const {
    return row.place < arguments_.lists.long_rows && arguments_.lists.parts > 1;
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
  __device__ int first_query_row() const { return arguments_.queries_packed ? shape_.query_token : 0; }

  __device__ int lane_query() const { return query_begin_ + first_row() + lane() / 4; }

  __device__ static Values& values() {
    __shared__ Values shared[kWarpsKeepOwn ? Config::kWarps : 1];
    return shared[kWarpsKeepOwn ? threadIdx.x / 32 : 0];
  }
  /// The first of the rows that it is kept for, in the block's.
  __device__ static int first_kept() { return kWarpsKeepOwn ? first_row() : 0; }
  __device__ int first_query() const { return query_begin_ + first_kept(); }

  /// Divides by the sums, with the sink's part, and writes o and lse: each warp those of its rows, as soon as it is
  /// done.
  __device__ void finish() {
    commit_copies();  // of queries that met no key
    wait_for_copies<0>();
    if constexpr (kReadsQueryAgain) query_begin_ = taken_row().query_begin;
    if constexpr (Config::kHasMaxScore) largest_.store(arguments_.max_score + head());
    if (Config::kHasLists && is_in_parts(taken_row())) return keep_part();
    const GlobalRows<Element> rows = query_rows(arguments_.o, head());
#pragma unroll
    for (int i = 0; i < Config::kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float multiplier = close_row(i, half);
        const int row = lane_query() + 16 * i + 8 * half;
        store_row<Config::kAligned, Config::kHeadV>(rows.data + row * rows.stride, row < rows.end, [&](int j) {
          const float* const x = &o_.x[i][j][2 * half];
          return make_float2(x[0] * multiplier, x[1] * multiplier);
        });
      }
    }
  }

 private:
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

 protected:
  const ForwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  const int sequence_;
  const SequenceShape& shape_;  // in global memory, and read anew where it is needed, which is seldom
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

// Decoding: a few queries against a long cache, bound by memory. Lanes run along the head dimension, so that every row
// of k and v is read once, as it lies, for all heads that share it.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/decode_blocks.h"
#include "cpu/decode_code_tiles.h"
#include "cpu/decode_codes.h"
#include "cpu/decode_pairs.h"
#include "cpu/decode_tiles.h"
#include "cpu/exp2.h"
#include "cpu/kernels.h"
#include "cpu/subnormals.h"
#include "cpu/units.h"

namespace tilewise::cpu {

/// The products of int8 caches: in tile registers where lanes come with some.
template <class Lanes, int kTileKeys>
struct CodesOf {
  using Type = DecodeCodes<Lanes, kTileKeys>;
};
template <class Lanes, int kTileKeys>
requires requires { typename Lanes::Registers; }
struct CodesOf<Lanes, kTileKeys> {
  using Type = DecodeCodeTiles<Lanes, kTileKeys>;
};

template <class Lanes, class Packing>
class DecodeKernel {
 public:
  static constexpr int kTileKeys = 64;  // k and v of a tile of 128 columns fill L2's fair share, not L1

  /// Workspace of one task, in floats; a multiple of 16.
  static std::int64_t workspace_floats(const Shape& shape, int row_count) {
    return row_count * (padded(shape.d_qk) + padded(shape.d_v) + kTileKeys) + rounded(row_count * kWidth) +
           rounded(row_count) + 2 * rounded(row_count * kSpanFloats) + hole_floats(shape) +
           packed_floats(shape, row_count);
  }

  static void run(const DecodeTask* tasks, int count) {
    for (; count > 0; tasks += kMostDecodeTasks, count -= kMostDecodeTasks) {
      const int together = count < kMostDecodeTasks ? count : kMostDecodeTasks;
      DecodeKernel kernels[kMostDecodeTasks];
      for (int i = 0; i < together; ++i) kernels[i].start(tasks[i]);
      Packing::with_element(tasks->k.rows.dtype, [&]<class K>(const K*) {
        Packing::with_element(tasks->v.rows.dtype, [&]<class V>(const V*) { run_over<K, V>(kernels, together); });
      });
      for (int i = 0; i < together; ++i) kernels[i].finish();
    }
  }

 private:
  using Vec = typename Lanes::Vec;
  using Blocks = DecodeBlocks<Lanes, kTileKeys>;
  using Tiles = typename Blocks::Tiles;
  using Codes = typename CodesOf<Lanes, kTileKeys>::Type;
  /// Whether these are multiplied as integers.
  template <class Element>
  static constexpr bool kIsCodes = Codes::kAvailable&& std::is_same_v<Element, std::int8_t>;
  using Pairs = DecodePairs<Lanes, kTileKeys>;
  /// Whether these are multiplied as pairs of bfloat16, where queries are bfloat16 too.
  template <class Element>
  static constexpr bool kIsPairs = Pairs::kAvailable&& std::is_same_v<Element, BFloat16>;
  static constexpr int kWidth = Lanes::kWidth;
  static constexpr int kRows = Blocks::kRows;
  static constexpr int kSpanFloats = sizeof(KeySpan) / sizeof(float);

  static std::int64_t rounded(std::int64_t floats) { return (floats + 15) / 16 * 16; }
  static std::int64_t padded(int d) { return rounded(d); }
  static std::int64_t hole_floats(const Shape& shape) {
    return padded(shape.d_qk) < padded(shape.d_v) ? padded(shape.d_v) : padded(shape.d_qk);
  }

  static std::int64_t packed_floats(const Shape& shape, int rows) {
    const std::int64_t padded_d = padded(shape.d_qk);
    return (rows + kRows - 1) / kRows * Codes::query_floats(padded_d) + rows * Pairs::query_floats(padded_d);
  }

  struct Range {
    std::int64_t begin, end;
  };

  void start(const DecodeTask& task) {
    task_ = &task;
    shape_ = task.shape;
    rows_ = task.row_count;
    float* free = task.workspace;
    const auto take = [&free](std::int64_t floats) {
      float* taken = free;
      free += floats;
      return taken;
    };
    split_spans_ = reinterpret_cast<KeySpan*>(take(rounded(rows_ * kSpanFloats)));
    spans_ = reinterpret_cast<KeySpan*>(take(rounded(rows_ * kSpanFloats)));
    q_ = take(rows_ * padded(shape_.d_qk));
    o_ = take(rows_ * padded(shape_.d_v));
    scores_ = take(std::int64_t{rows_} * kTileKeys);
    sum_ = take(rounded(rows_ * kWidth));
    maximum_ = take(rounded(rows_));
    zeros_ = take(hole_floats(shape_));
    packed_q_ = take(packed_floats(shape_, rows_));

    for (std::int64_t i = 0; i < rows_ * padded(shape_.d_v); ++i) o_[i] = 0;
    for (std::int64_t i = 0; i < hole_floats(shape_); ++i) zeros_[i] = 0;
    for (int row = 0; row < rows_; ++row) {
      const Rows q{task.rows[row].q, 0, task.q_dtype};
      float* to = q_ + row * padded(shape_.d_qk);
      Packing::to_floats(q, shape_.d_qk, to);
      for (std::int64_t i = shape_.d_qk; i < padded(shape_.d_qk); ++i) to[i] = 0;
      maximum_[row] = -__builtin_inff();
      Lanes::store(sum_ + row * kWidth, Lanes::zero());
    }
    kept_ = kept_keys();
  }

  /// Asks for every row's span of the whole split, which settles most tiles without asking for them. Returns the keys
  /// of the tiles that keep anything.
  Range kept_keys() {
    Range kept{task_->key_end, task_->key_begin};
    if (task_->key_begin >= task_->key_end) return kept;
    for (int row = 0; row < rows_; ++row) {
      const DecodeRow& it = task_->rows[row];
      const KeySpan span = it.walk(it.query, it.query + 1, task_->key_begin, task_->key_end);
      split_spans_[row] = span;
      if (span.begin >= span.end) continue;
      kept.begin = kept.begin < span.begin ? kept.begin : span.begin;
      kept.end = kept.end > span.end ? kept.end : span.end;
    }
    return kept;
  }

  /// A tile of keys of one of the tasks that run together.
  struct Step {
    std::int64_t key;
    int task;
  };

  /// The step after this one that may keep anything, in the order of keys, then of tasks; key >= key_end: there is
  /// none.
  static Step after(Step step, const DecodeKernel* kernels, int count) {
    const std::int64_t key_end = kernels->task_->key_end;
    for (;;) {
      if (++step.task == count) step = {step.key + kTileKeys, 0};
      const Range& kept = kernels[step.task].kept_;
      if (step.key >= key_end || (step.key < kept.end && step.key + kTileKeys > kept.begin)) return step;
    }
  }

  template <class K, class V>
  static void run_over(DecodeKernel* kernels, int count) {
    const DecodeTask& first = *kernels->task_;
    Tiles tiles(first.shape.d_qk * std::int64_t{sizeof(K)}, first.shape.d_v * std::int64_t{sizeof(V)});
    const auto locate = [&](const Step& step) {
      const std::int64_t left = first.key_end - step.key;
      const DecodeKernel& kernel = kernels[step.task];
      tiles.template locate_next<K, V>(*kernel.task_, step.key, left < kTileKeys ? first.key_end : step.key + kTileKeys,
                                       kernel.zeros_);
    };
    for (int i = 0; i < count; ++i) kernels[i].template pack_queries<K>();
    Step step = after({first.key_begin, -1}, kernels, count);
    locate(step);
    while (step.key < first.key_end) {
      const Step next = after(step, kernels, count);
      tiles.advance();
      locate(next);
      kernels[step.task].template use<K, V>(step.key, tiles);
      step = next;
    }
  }

  KeySpan span_of(int row, std::int64_t begin, std::int64_t end) const {
    const KeySpan& split = split_spans_[row];
    if (end <= split.begin || begin >= split.end) return {begin, begin, begin, begin};
    if (split.full_begin <= begin && end <= split.full_end) return {begin, begin, end, end};
    const DecodeRow& it = task_->rows[row];
    return it.walk(it.query, it.query + 1, begin, end);
  }

  template <class K, class V>
  void use(std::int64_t key, Tiles& tiles) {
    bool kept = false;
    for (int row = 0; row < rows_; ++row) {
      spans_[row] = span_of(row, key, key + tiles.count());
      kept |= spans_[row].begin < spans_[row].end;
    }
    if (!kept) return;
    tiles.catch_up();
    // The first rows to come along ask for memory for all.
    for (int row = 0; row < rows_; row += kRows) {
      with_count<kRows>(rows_ - row, [&]<int R>() {
        row == 0 ? products<R, true, K>(row, tiles) : products<R, false, K>(row, tiles);
      });
    }
    for (int row = 0; row < rows_; ++row) finish_scores(row, key, tiles);
    weigh_rows<V>(tiles);
    for (int row = 0; row < rows_; row += kRows) {
      with_count<kRows>(rows_ - row, [&]<int R>() {
        row == 0 ? accumulate<R, true, V>(row, tiles) : accumulate<R, false, V>(row, tiles);
      });
    }
  }

  /// Scores of R rows, unscaled.
  template <int R, bool kAhead, class K>
  void products(int row, Tiles& tiles) {
    float* scores = scores_ + row * kTileKeys;
    if constexpr (kIsCodes<K>) {
      const typename Codes::Queries queries = queries_at(row);
      if (queries.usable()) {
        return has_short_queries() ? Codes::template products<2, R, kAhead>(queries, shape_.d_qk, tiles, scores)
                                   : Codes::template products<3, R, kAhead>(queries, shape_.d_qk, tiles, scores);
      }
    }
    const std::int64_t stride = padded(shape_.d_qk);
    if constexpr (kIsPairs<K>) {
      if (has_pairs()) {
        const std::int64_t packed = Pairs::query_floats(stride);
        return Pairs::template products<R, kAhead>(packed_q_ + row * packed, packed, shape_.d_qk, tiles, scores);
      }
    }
    using Operand = DecodeWidened<Lanes, K>;
    Blocks::template products<R, kAhead, Operand>(q_ + row * stride, stride, shape_.d_qk, tiles, scores);
  }

  /// o of R rows.
  template <int R, bool kAhead, class V>
  void accumulate(int row, Tiles& tiles) {
    const float* weights = scores_ + row * kTileKeys;
    const std::int64_t stride = padded(shape_.d_v);
    float* o = o_ + row * stride;
    if constexpr (kIsCodes<V>) {
      const bool done = has_short_queries()
                            ? Codes::template accumulate<2, R, kAhead>(weights, tiles, shape_.d_v, o, stride)
                            : Codes::template accumulate<3, R, kAhead>(weights, tiles, shape_.d_v, o, stride);
      if (done) return;
    }
    if constexpr (kIsPairs<V>) {
      if (has_pairs()) return Pairs::template accumulate<R, kAhead>(weights, tiles, shape_.d_v, o, stride);
    }
    Blocks::template accumulate<R, kAhead, V>(weights, tiles, shape_.d_v, o, stride);
  }

  /// Whether two bytes of a query or a weight are more than inputs and outputs of 16 bits show.
  bool has_short_queries() const { return task_->q_dtype != DType::float32; }

  bool has_pairs() const { return task_->q_dtype == DType::bfloat16; }

  typename Codes::Queries queries_at(int row) const {
    return typename Codes::Queries(packed_q_ + row / kRows * Codes::query_floats(padded(shape_.d_qk)));
  }

  /// q as operands against keys of a storage type.
  template <class K>
  void pack_queries() {
    const std::int64_t stride = padded(shape_.d_qk);
    if constexpr (kIsCodes<K>) {
      for (int row = 0; row < rows_; row += kRows) {
        const int count = rows_ - row < kRows ? rows_ - row : kRows;
        const typename Codes::Queries queries = queries_at(row);
        has_short_queries() ? Codes::template round<2>(q_ + row * stride, stride, shape_.d_qk, count, queries)
                            : Codes::template round<3>(q_ + row * stride, stride, shape_.d_qk, count, queries);
      }
    }
    if constexpr (kIsPairs<K>) {
      if (!has_pairs()) return;
      for (int row = 0; row < rows_; ++row)
        Pairs::pack_query(q_ + row * stride, stride, packed_q_ + row * Pairs::query_floats(stride));
    }
  }

  /// Calls f with the number of rows, at most kMost, as a constant.
  template <int kMost, class Function>
  static TILEWISE_INLINE void with_count(int rows, const Function& f) {
    if constexpr (kMost > 1) {
      if (rows < kMost) return with_count<kMost - 1>(rows, f);
    }
    f.template operator()<kMost>();
  }

  /// Products of a row become scores, -inf where nothing is kept.
  void finish_scores(int row, std::int64_t first, const Tiles& tiles) {
    float* scores = scores_ + row * kTileKeys;
    const DecodeRow& it = task_->rows[row];
    const KeySpan& span = spans_[row];
    const auto clear = [&](std::int64_t begin, std::int64_t end, float value) {
      for (std::int64_t i = begin; i < end; ++i) scores[i] = value;
    };
    if (span.begin >= span.end) return clear(0, kTileKeys, -__builtin_inff());
    const Vec scale = Lanes::broadcast(task_->scale);
    for (int i = 0; i < kTileKeys; i += kWidth) {
      Vec factor = scale;
      if (task_->k.scales != nullptr) factor = Lanes::mul(Lanes::load(tiles.k_scales() + i), scale);
      Lanes::store(scores + i, Lanes::mul(factor, Lanes::load(scores + i)));
    }
    clear(0, span.begin - first, -__builtin_inff());
    clear(span.end - first, kTileKeys, -__builtin_inff());
    apply_score(it.score, span, [&](std::int64_t begin, std::int64_t end, bool partial) {
      return ScoreBlock{scores + (begin - first), 1, it.query, begin, 1, static_cast<int>(end - begin), partial};
    });
  }

  /// Scores of all rows become weights.
  template <class V>
  void weigh_rows(Tiles& tiles) {
    const FlushedSubnormals<Flushed::all> flushed;
    for (int row = 0; row < rows_; ++row) {
      weigh(row, tiles);
      // Products of codes are so short that the memory would wait for the end of this. Four cores of a Zen 4 decode
      // pages at 0.93 to 0.96 of one piece's rate so, and at 0.90 without.
      if constexpr (kIsCodes<V>) typename Tiles::Ahead(tiles).touch_part_of_v(4 * rows_);
    }
  }

  /// Scores of a row become weights, times the scales of v's rows.
  void weigh(int row, const Tiles& tiles) {
    float* scores = scores_ + row * kTileKeys;
    Vec highest = Lanes::broadcast(-__builtin_inff());
    for (int i = 0; i < kTileKeys; i += kWidth) highest = Lanes::max(Lanes::load(scores + i), highest);
    // Rarely, as in the forward pass: weights then wait for no maximum across lanes.
    if (Lanes::any_greater(highest, Lanes::broadcast(maximum_[row] + kRescaleGrowth / kLog2E))) {
      raise_maximum(row, Lanes::max_of(highest));
    }

    const Exp2<Lanes> exp2(kLog2E);
    const Vec maximum = Lanes::zero_if_minus_infinity(Lanes::broadcast(maximum_[row]));
    Vec sum = Lanes::zero();
    for (int i = 0; i < kTileKeys; i += kWidth) {
      Vec weight = exp2(Lanes::sub(Lanes::load(scores + i), maximum));
      sum = Lanes::add(sum, weight);
      if (task_->v.scales != nullptr) weight = Lanes::mul(weight, Lanes::load(tiles.v_scales() + i));
      Lanes::store(scores + i, weight);
    }
    float* total = sum_ + row * kWidth;
    Lanes::store(total, Lanes::add(Lanes::load(total), sum));
  }

  void raise_maximum(int row, float highest) {
    const float factor = maximum_[row] == -__builtin_inff() ? 0.0f : __builtin_expf(maximum_[row] - highest);
    maximum_[row] = highest;
    const auto scale = [factors = Lanes::broadcast(factor)](float* values) {
      Lanes::store(values, Lanes::mul(factors, Lanes::load(values)));
    };
    scale(sum_ + row * kWidth);
    for (std::int64_t i = 0; i < padded(shape_.d_v); i += kWidth) scale(o_ + row * padded(shape_.d_v) + i);
  }

  void finish() {
    for (int row = 0; row < rows_; ++row) {
      const float sum = Lanes::sum_of(Lanes::load(sum_ + row * kWidth)), factor = sum == 0 ? 0.0f : 1 / sum;
      for (int i = 0; i < shape_.d_v; ++i) {
        task_->o[std::int64_t{row} * shape_.d_v + i] = factor * o_[row * padded(shape_.d_v) + i];
      }
      const float reference = maximum_[row] == -__builtin_inff() ? 0.0f : maximum_[row];
      task_->lse[row] = sum == 0 ? -__builtin_inff() : reference + __builtin_logf(sum);
    }
  }

  const DecodeTask* task_;
  Shape shape_;
  int rows_;
  Range kept_;
  KeySpan* split_spans_;  // [rows], of the whole split
  KeySpan* spans_;        // [rows], of the tile
  float* q_;              // [rows][padded d_qk]
  float* o_;              // [rows][padded d_v]
  float* scores_;         // [rows][kTileKeys], scores, then weights
  float* sum_;            // [rows][kWidth], of weights
  float* maximum_;        // [rows], what weights are relative to
  float* zeros_;          // a row of k or v of a hole
  float* packed_q_;       // q as other products take it
};

}  // namespace tilewise::cpu

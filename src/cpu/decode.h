// Decoding: a few queries against a long cache, bound by memory. Lanes run along the head dimension, so that every row
// of k and v is read once, as it lies, for all heads that share it.
#pragma once

#include <cstdint>

#include "cpu/exp2.h"
#include "cpu/kernels.h"
#include "cpu/row_source.h"
#include "cpu/units.h"

namespace tilewise::cpu {

template <class Lanes, class Packing>
class DecodeKernel {
 public:
  static constexpr int kTileKeys = 64;  // k and v of a tile of 128 columns fill L2's fair share, not L1

  /// Workspace of one task, in floats.
  static std::int64_t workspace_floats(const Shape& shape, int row_count) {
    return std::int64_t{row_count} * (padded(shape.d_qk) + padded(shape.d_v) + kTileKeys) + rounded(2 * row_count) +
           2 * rounded(row_count * kSpanFloats) + hole_floats(shape);
  }

  static void run(const DecodeTask& task) {
    DecodeKernel kernel(task);
    Packing::with_element(task.k.rows.dtype, [&]<class K>(const K*) {
      Packing::with_element(task.v.rows.dtype, [&]<class V>(const V*) { kernel.template run_over<K, V>(); });
    });
  }

 private:
  using Vec = typename Lanes::Vec;
  static constexpr int kWidth = Lanes::kWidth;
  static constexpr int kRows = 4;                   // rows of a register block: each key is converted once for them
  static constexpr int kKeys = Lanes::kDecodeRows;  // keys of a register block of products
  static constexpr int kVectors = Lanes::kDecodeVectors;  // vectors of a register block of outputs
  static_assert(kKeys == 2 || kKeys == 4);
  static constexpr int kSpanFloats = sizeof(KeySpan) / sizeof(float);

  static std::int64_t padded(int d) { return (d + kWidth - 1) / kWidth * kWidth; }
  static std::int64_t hole_floats(const Shape& shape) {
    return padded(shape.d_qk) < padded(shape.d_v) ? padded(shape.d_v) : padded(shape.d_qk);
  }
  static std::int64_t rounded(std::int64_t floats) { return (floats + 15) / 16 * 16; }

  explicit DecodeKernel(const DecodeTask& task) : task_(task), shape_(task.shape), rows_(task.row_count) {
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
    maximum_ = take(rounded(2 * rows_));
    sum_ = maximum_ + rows_;
    zeros_ = take(hole_floats(shape_));
  }

  /// Where the rows of k and v of a tile lie.
  struct Tile {
    int count = 0;
    // In the order of their use: k of this tile, v of it, k of the next. Where there are fewer, the first of each.
    const void* rows[3 * kTileKeys];
    float k_scale[kTileKeys];  // 1 behind `count`
    float v_scale[kTileKeys];

    const void** k() { return rows; }
    const void** v() { return rows + kTileKeys; }
    const void* const* k() const { return rows; }
    const void* const* v() const { return rows + kTileKeys; }
    void follow_with(const Tile& next) {
      for (int i = 0; i < kTileKeys; ++i) rows[2 * kTileKeys + i] = next.rows[i];
    }
  };

  template <class K, class V>
  void locate(std::int64_t begin, std::int64_t end, Tile* tile) const {
    tile->count = static_cast<int>(end - begin);
    locate_rows<K>(task_.k, begin, end, zeros_, tile->k(), tile->k_scale);
    locate_rows<V>(task_.v, begin, end, zeros_, tile->v(), tile->v_scale);
    for (int i = tile->count; i < kTileKeys; ++i) {
      tile->k()[i] = tile->k()[0];
      tile->v()[i] = tile->v()[0];
      tile->k_scale[i] = tile->v_scale[i] = 1;
    }
  }

  template <class K, class V>
  void run_over() {
    start();
    const auto [begin, end] = kept_keys();
    row_bytes_ = shape_.d_qk * static_cast<std::int64_t>(sizeof(K));
    const std::int64_t v_bytes = shape_.d_v * static_cast<std::int64_t>(sizeof(V));
    if (row_bytes_ < v_bytes) row_bytes_ = v_bytes;
    const std::int64_t rows = kAheadBytes / row_bytes_;
    ahead_ = static_cast<int>(rows < kKeys ? kKeys : rows < kTileKeys ? rows : kTileKeys);
    Tile tiles[2];
    const auto locate_tile = [&](std::int64_t key, Tile* to) {
      locate<K, V>(key, end - key < kTileKeys ? end : key + kTileKeys, to);
    };
    if (begin < end) {
      locate_tile(begin, &tiles[0]);
      for (int i = 0; i < ahead_; ++i) {
        for (std::int64_t byte = 0; byte < row_bytes_; byte += kLine)
          fetch(static_cast<const char*>(tiles[0].rows[i]) + byte);
      }
    }
    Tile *now = &tiles[0], *next = &tiles[1];
    for (std::int64_t key = begin; key < end; key += kTileKeys) {
      const bool is_last = key + kTileKeys >= end;
      if (!is_last) locate_tile(key + kTileKeys, next);
      now->follow_with(is_last ? *now : *next);
      use<K, V>(key, *now);
      Tile* used = now;
      now = next;
      next = used;
    }
    finish();
  }

  // Reading ahead, to L2, follows the order in which rows are needed: all k of a tile, all v of it, all k of the next.
  // On a Zen 4 one core then reads k and v of float32 at 0.60 to 0.68 of its read bandwidth, instead of 0.53 to 0.56.
  // An eighth of the distance is too short. With k and v each by itself, requests outrun the memory wherever it is
  // slower than the arithmetic, and are waited for one by one. Half of the distance does as well in one piece, and
  // bfloat16 in pages of 16 is 7% slower with it.
  static constexpr std::int64_t kLine = 64, kAheadBytes = 384 * kLine;

  static TILEWISE_INLINE void fetch(const void* line) { __builtin_prefetch(line, 0, 2); }

  void start() {
    for (std::int64_t i = 0; i < rows_ * padded(shape_.d_v); ++i) o_[i] = 0;
    for (std::int64_t i = 0; i < hole_floats(shape_); ++i) zeros_[i] = 0;
    for (int row = 0; row < rows_; ++row) {
      const Rows q{task_.rows[row].q, 0, task_.q_dtype};
      float* to = q_ + row * padded(shape_.d_qk);
      Packing::to_floats(q, shape_.d_qk, to);
      for (std::int64_t i = shape_.d_qk; i < padded(shape_.d_qk); ++i) to[i] = 0;
      maximum_[row] = -__builtin_inff();
      sum_[row] = 0;
    }
  }

  struct Range {
    std::int64_t begin, end;
  };

  /// Asks for every row's span of the whole split, which settles most tiles without asking for them. Returns the tiles
  /// that keep anything, as keys.
  Range kept_keys() {
    Range kept{task_.key_end, task_.key_begin};
    if (task_.key_begin >= task_.key_end) return kept;
    for (int row = 0; row < rows_; ++row) {
      const std::int64_t query = task_.rows[row].query;
      const KeySpan span = task_.rows[row].walk(query, query + 1, task_.key_begin, task_.key_end);
      split_spans_[row] = span;
      if (span.begin >= span.end) continue;
      kept.begin = kept.begin < span.begin ? kept.begin : span.begin;
      kept.end = kept.end > span.end ? kept.end : span.end;
    }
    if (kept.begin < kept.end) kept.begin -= (kept.begin - task_.key_begin) % kTileKeys;
    return kept;
  }

  KeySpan span_of(int row, std::int64_t begin, std::int64_t end) const {
    const KeySpan& split = split_spans_[row];
    if (end <= split.begin || begin >= split.end) return {begin, begin, begin, begin};
    if (split.full_begin <= begin && end <= split.full_end) return {begin, begin, end, end};
    const std::int64_t query = task_.rows[row].query;
    return task_.rows[row].walk(query, query + 1, begin, end);
  }

  template <class K, class V>
  void use(std::int64_t key, const Tile& tile) {
    bool kept = false;
    for (int row = 0; row < rows_; ++row) {
      spans_[row] = span_of(row, key, key + tile.count);
      kept |= spans_[row].begin < spans_[row].end;
    }
    if (!kept) return;
    for (int row = 0; row < rows_; row += kRows) {
      // The first rows to come along read ahead for all.
      with_count<kRows>(
          rows_ - row, [&]<int R>() { row == 0 ? products<R, true, K>(row, tile) : products<R, false, K>(row, tile); });
    }
    for (int row = 0; row < rows_; ++row) softmax(row, key, tile);
    for (int row = 0; row < rows_; row += kRows) {
      with_count<kRows>(rows_ - row, [&]<int R>() {
        row == 0 ? accumulate<R, true, V>(row, tile) : accumulate<R, false, V>(row, tile);
      });
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

  /// scores of rows [row, row + R): q k, unscaled.
  template <int R, bool kAhead, class K>
  void products(int row, const Tile& tile) {
    int key = 0;
    for (; key + kKeys <= tile.count; key += kKeys) products<R, kKeys, kAhead, K>(row, key, tile);
    for (; key < tile.count; ++key) products<R, 1, kAhead, K>(row, key, tile);
  }

  template <int R, int M, bool kAhead, class K>
  TILEWISE_INLINE void products(int row, int key, const Tile& tile) {
    Vec sums[R][M];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sums[r][m] = Lanes::zero();
    }
    const float* q = q_ + row * padded(shape_.d_qk);
    const K* rows[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) rows[m] = static_cast<const K*>(tile.k()[key + m]);
    const void* const* beyond = tile.k() + key + ahead_;
    const auto step = [&](std::int64_t column, const auto& load) {
      Vec right[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) right[r] = Lanes::load(q + r * padded(shape_.d_qk) + column);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const Vec left = load(rows[m] + column);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[r][m] = Lanes::fma(left, right[r], sums[r][m]);
      }
    };
    const auto load = [](const K* p) { return Lanes::load(p); };
    constexpr int kColumns = static_cast<int>(kLine / sizeof(K));
    int column = 0;
    for (; column + kColumns <= shape_.d_qk; column += kColumns) {
      if constexpr (kAhead) {
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) fetch(static_cast<const K*>(beyond[m]) + column);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kColumns; i += kWidth) step(column + i, load);
    }
    for (; column + kWidth <= shape_.d_qk; column += kWidth) step(column, load);
    const int left = shape_.d_qk - column;
    if (left > 0) step(column, [left](const K* p) { return Lanes::load_first(p, left); });
    store_sums<R, M>(sums, scores_ + std::int64_t{row} * kTileKeys + key);
  }

  /// scores[r][m], kTileKeys apart = the sum of sums[r][m]'s lanes.
  template <int R, int M>
  static TILEWISE_INLINE void store_sums(const Vec (&sums)[R][M], float* scores) {
    if constexpr (M == 4) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) Lanes::store_sums(scores + r * kTileKeys, sums[r]);
    } else if constexpr (M == 2 && R % 2 == 0) {
#pragma GCC unroll 2
      for (int r = 0; r < R; r += 2) {
        const Vec four[4] = {sums[r][0], sums[r][1], sums[r + 1][0], sums[r + 1][1]};
        float pairs[4];
        Lanes::store_sums(pairs, four);
        __builtin_memcpy(scores + r * kTileKeys, pairs, 2 * sizeof(float));
        __builtin_memcpy(scores + (r + 1) * kTileKeys, pairs + 2, 2 * sizeof(float));
      }
    } else {
      for (int r = 0; r < R; ++r) {
        for (int m = 0; m < M; ++m) scores[r * kTileKeys + m] = Lanes::sum_of(sums[r][m]);
      }
    }
  }

  /// scores of a row become weights, times the scales of v's rows.
  void softmax(int row, std::int64_t first, const Tile& tile) {
    float* scores = scores_ + row * kTileKeys;
    const DecodeRow& it = task_.rows[row];
    const KeySpan& span = spans_[row];
    const auto clear = [&](std::int64_t begin, std::int64_t end, float value) {
      for (std::int64_t i = begin; i < end; ++i) scores[i] = value;
    };
    if (span.begin >= span.end) return clear(0, kTileKeys, 0);
    const Vec scale = Lanes::broadcast(task_.scale);
    for (int i = 0; i < kTileKeys; i += kWidth) {
      Vec factor = scale;
      if (task_.k.scales != nullptr) factor = Lanes::mul(Lanes::load(tile.k_scale + i), scale);
      Lanes::store(scores + i, Lanes::mul(factor, Lanes::load(scores + i)));
    }
    clear(0, span.begin - first, -__builtin_inff());
    clear(span.end - first, kTileKeys, -__builtin_inff());
    apply_score(it.score, span, [&](std::int64_t begin, std::int64_t end, bool partial) {
      return ScoreBlock{scores + (begin - first), 1, it.query, begin, 1, static_cast<int>(end - begin), partial};
    });
    Vec highest = Lanes::broadcast(-__builtin_inff());
    for (int i = 0; i < kTileKeys; i += kWidth) highest = Lanes::max(Lanes::load(scores + i), highest);
    raise_maximum(row, Lanes::max_of(highest));

    const Exp2<Lanes> exp2(kLog2E);
    const Vec maximum = Lanes::zero_if_minus_infinity(Lanes::broadcast(maximum_[row]));
    Vec sum = Lanes::zero();
    for (int i = 0; i < kTileKeys; i += kWidth) {
      Vec weight = exp2(Lanes::sub(Lanes::load(scores + i), maximum));
      sum = Lanes::add(sum, weight);
      if (task_.v.scales != nullptr) weight = Lanes::mul(weight, Lanes::load(tile.v_scale + i));
      Lanes::store(scores + i, weight);
    }
    sum_[row] += Lanes::sum_of(sum);
  }

  void raise_maximum(int row, float highest) {
    if (!(highest > maximum_[row])) return;
    const float factor = maximum_[row] == -__builtin_inff() ? 0.0f : __builtin_expf(maximum_[row] - highest);
    maximum_[row] = highest;
    sum_[row] *= factor;
    float* o = o_ + row * padded(shape_.d_v);
    for (std::int64_t i = 0; i < padded(shape_.d_v); ++i) o[i] *= factor;
  }

  /// o of rows [row, row + R) += weights v.
  template <int R, bool kAhead, class V>
  void accumulate(int row, const Tile& tile) {
    int column = 0;
    constexpr int kColumns = kVectors * kWidth;
    const auto load = [](const V* p) { return Lanes::load(p); };
    const auto block = [&]<int N>(const auto& load_columns) {
      accumulate<R, N, kAhead, V>(row, column, tile, load_columns);
    };
    for (; column + kColumns <= shape_.d_v; column += kColumns) block.template operator()<kVectors>(load);
    for (; column + kWidth <= shape_.d_v; column += kWidth) block.template operator()<1>(load);
    const int left = shape_.d_v - column;
    if (left > 0) block.template operator()<1>([left](const V* p) { return Lanes::load_first(p, left); });
  }

  template <int R, int N, bool kAhead, class V, class Load>
  TILEWISE_INLINE void accumulate(int row, int column, const Tile& tile, const Load& load) {
    const std::int64_t stride = padded(shape_.d_v);
    float* o = o_ + row * stride + column;
    Vec sums[R][N];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[r][n] = Lanes::load(o + r * stride + n * kWidth);
    }
    const float* weights = scores_ + std::int64_t{row} * kTileKeys;
    // Blocks of less than a line take turns.
    constexpr int kBytes = kWidth * static_cast<int>(sizeof(V));
    const bool fetches = kAhead && (N * kBytes % kLine == 0 || column * static_cast<int>(sizeof(V)) % kLine == 0);
    const void* const* beyond = tile.v() + ahead_;
    int key = 0;
    do {  // a tile has keys
      if (fetches) {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          if (n * kBytes % kLine == 0) fetch(static_cast<const V*>(beyond[key]) + column + n * kWidth);
        }
      }
      const V* v = static_cast<const V*>(tile.v()[key]) + column;
      Vec right[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) right[n] = load(v + n * kWidth);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Vec weight = Lanes::broadcast(weights[r * kTileKeys + key]);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[r][n] = Lanes::fma(weight, right[n], sums[r][n]);
      }
    } while (++key < tile.count);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) Lanes::store(o + r * stride + n * kWidth, sums[r][n]);
    }
  }

  void finish() {
    for (int row = 0; row < rows_; ++row) {
      const float sum = sum_[row], factor = sum == 0 ? 0.0f : 1 / sum;
      for (int i = 0; i < shape_.d_v; ++i) {
        task_.o[std::int64_t{row} * shape_.d_v + i] = factor * o_[row * padded(shape_.d_v) + i];
      }
      const float reference = maximum_[row] == -__builtin_inff() ? 0.0f : maximum_[row];
      task_.lse[row] = sum == 0 ? -__builtin_inff() : reference + __builtin_logf(sum);
    }
  }

  const DecodeTask& task_;
  const Shape& shape_;
  int rows_;
  std::int64_t row_bytes_ = 0;  // of the longer ones of k and v
  int ahead_ = 0;               // rows, in the order of Tile::rows
  KeySpan* split_spans_;        // [rows], of the whole split
  KeySpan* spans_;              // [rows], of the tile
  float* q_;                    // [rows][padded d_qk]
  float* o_;                    // [rows][padded d_v]
  float* scores_;               // [rows][kTileKeys], scores, then weights
  float* maximum_;              // [rows]
  float* sum_;                  // [rows]
  float* zeros_;                // a row of k or v of a hole
};

}  // namespace tilewise::cpu

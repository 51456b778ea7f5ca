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
           hole_floats(shape);
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
  static constexpr int kKeys = 4;  // keys of a register block of products
  static constexpr int kRows = 4;  // rows of a register block of outputs

  static std::int64_t padded(int d) { return (d + kWidth - 1) / kWidth * kWidth; }
  static std::int64_t hole_floats(const Shape& shape) {
    return padded(shape.d_qk) < padded(shape.d_v) ? padded(shape.d_v) : padded(shape.d_qk);
  }
  static std::int64_t rounded(std::int64_t floats) { return (floats + 15) / 16 * 16; }

  explicit DecodeKernel(const DecodeTask& task) : task_(task), shape_(task.shape), rows_(task.row_count) {
    q_ = task.workspace;
    o_ = q_ + rows_ * padded(shape_.d_qk);
    scores_ = o_ + rows_ * padded(shape_.d_v);
    maximum_ = scores_ + std::int64_t{rows_} * kTileKeys;
    sum_ = maximum_ + rows_;
    zeros_ = maximum_ + rounded(2 * rows_);
  }

  /// Where the rows of a tile lie.
  template <class Element>
  struct TileRows {
    const Element* row[kTileKeys];
    float scale[kTileKeys];
    int count;
  };

  template <class Element>
  void locate(const RowSource& source, std::int64_t begin, std::int64_t end, TileRows<Element>* tile) const {
    tile->count = static_cast<int>(end - begin);
    locate_rows(source, begin, end, reinterpret_cast<const Element*>(zeros_), tile->row, tile->scale);
  }

  template <class K, class V>
  void run_over() {
    start();
    TileRows<K> k[2];
    TileRows<V> v[2];
    const auto locate_tile = [&](std::int64_t key, int which) {
      const std::int64_t begin = key < task_.key_end ? key : task_.key_end;
      const std::int64_t end = task_.key_end - begin < kTileKeys ? task_.key_end : begin + kTileKeys;
      locate(task_.k, begin, end, &k[which]);
      locate(task_.v, begin, end, &v[which]);
    };
    int now = 0;
    locate_tile(task_.key_begin, now);
    for (std::int64_t key = task_.key_begin; key < task_.key_end; key += kTileKeys, now ^= 1) {
      locate_tile(key + kTileKeys, now ^ 1);
      tile(key, k[now], v[now], k[now ^ 1], v[now ^ 1]);
    }
    finish();
  }

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

  template <class K, class V>
  void tile(std::int64_t key, const TileRows<K>& k, const TileRows<V>& v, const TileRows<K>& next_k,
            const TileRows<V>& next_v) {
    bool kept = false;
    for (int row = 0; row < rows_; ++row) {
      const std::int64_t query = task_.rows[row].query;
      const KeySpan span = task_.rows[row].walk(query, query + 1, key, key + k.count);
      kept |= span.begin < span.end;
    }
    if (!kept) return;
    for (int row = 0; row < rows_; row += Lanes::kDecodeRows) {
      // The first rows to come along fetch the next tile for all.
      const TileRows<K>* ahead = row == 0 ? &next_k : nullptr;
      with_count<Lanes::kDecodeRows>(rows_ - row, [&]<int R>() { products<R>(row, k, ahead); });
    }
    for (int row = 0; row < rows_; ++row) softmax(row, key, k, v.scale);
    for (int row = 0; row < rows_; row += kRows) {
      const TileRows<V>* ahead = row == 0 ? &next_v : nullptr;
      with_count<kRows>(rows_ - row, [&]<int R>() { accumulate<R>(row, v, ahead); });
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

  /// Asks for rows [first, first + count) of a tile.
  template <class Element>
  static TILEWISE_INLINE void fetch(const TileRows<Element>* tile, int first, int count, int width) {
    if (tile == nullptr) return;
    for (int i = first; i < first + count && i < tile->count; ++i) {
      const char* line = reinterpret_cast<const char*>(tile->row[i]);
      const char* end = reinterpret_cast<const char*>(tile->row[i] + width);
      for (; line < end; line += 64) __builtin_prefetch(line, 0, 2);
    }
  }

  /// scores of rows [row, row + R): q k, unscaled.
  template <int R, class K>
  void products(int row, const TileRows<K>& k, const TileRows<K>* ahead) {
    int key = 0;
    for (; key + kKeys <= k.count; key += kKeys) {
      fetch(ahead, key, kKeys, shape_.d_qk);
      products<R, kKeys>(row, key, k);
    }
    for (; key < k.count; ++key) products<R, 1>(row, key, k);
  }

  template <int R, int M, class K>
  TILEWISE_INLINE void products(int row, int key, const TileRows<K>& k) {
    Vec sums[R][M];
    for (auto& of_row : sums) {
      for (Vec& sum : of_row) sum = Lanes::zero();
    }
    const float* q = q_ + row * padded(shape_.d_qk);
    const auto step = [&](std::int64_t column, const auto& load) {
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const Vec left = load(k.row[key + m] + column);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          sums[r][m] = Lanes::fma(left, Lanes::load(q + r * padded(shape_.d_qk) + column), sums[r][m]);
        }
      }
    };
    int column = 0;
    for (; column + kWidth <= shape_.d_qk; column += kWidth) {
      step(column, [](const K* p) { return Lanes::load(p); });
    }
    const int left = shape_.d_qk - column;
    if (left > 0) step(column, [left](const K* p) { return Lanes::load_first(p, left); });
    for (int r = 0; r < R; ++r) {
      float* scores = scores_ + (row + r) * kTileKeys + key;
      if constexpr (M == kKeys) {
        Lanes::store_sums(scores, sums[r]);
      } else {
        *scores = Lanes::sum_of(sums[r][0]);
      }
    }
  }

  /// scores of a row become weights, times the scales of v's rows.
  template <class K>
  void softmax(int row, std::int64_t first, const TileRows<K>& k, const float* v_scales) {
    float* scores = scores_ + row * kTileKeys;
    const DecodeRow& it = task_.rows[row];
    const KeySpan span = it.walk(it.query, it.query + 1, first, first + k.count);
    const auto clear = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) scores[i] = -__builtin_inff();
    };
    if (span.begin >= span.end) return clear_weights(scores);
    const Vec scale = Lanes::broadcast(task_.scale);
    for (int i = 0; i < kTileKeys; i += kWidth) {
      Lanes::store(scores + i, Lanes::mul(Lanes::mul(Lanes::load(k.scale + i), scale), Lanes::load(scores + i)));
    }
    clear(0, span.begin - first);
    clear(span.end - first, kTileKeys);
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
      const Vec weight = exp2(Lanes::sub(Lanes::load(scores + i), maximum));
      sum = Lanes::add(sum, weight);
      Lanes::store(scores + i, weight);
    }
    sum_[row] += Lanes::sum_of(sum);
    if (task_.v.scales == nullptr) return;
    for (int i = 0; i < k.count; ++i) scores[i] *= v_scales[i];
  }

  static void clear_weights(float* weights) {
    for (int i = 0; i < kTileKeys; ++i) weights[i] = 0;
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
  template <int R, class V>
  void accumulate(int row, const TileRows<V>& v, const TileRows<V>* ahead) {
    int column = 0;
    constexpr int kColumns = Lanes::kDecodeVectors * kWidth;
    const auto load = [](const V* p) { return Lanes::load(p); };
    for (; column + kColumns <= shape_.d_v; column += kColumns) {
      accumulate<R, Lanes::kDecodeVectors>(row, column, v, column == 0 ? ahead : nullptr, load);
    }
    for (; column + kWidth <= shape_.d_v; column += kWidth)
      accumulate<R, 1>(row, column, v, column == 0 ? ahead : nullptr, load);
    const int left = shape_.d_v - column;
    if (left == 0) return;
    accumulate<R, 1>(row, column, v, column == 0 ? ahead : nullptr,
                     [left](const V* p) { return Lanes::load_first(p, left); });
  }

  template <int R, int N, class V, class Load>
  TILEWISE_INLINE void accumulate(int row, int column, const TileRows<V>& v, const TileRows<V>* ahead,
                                  const Load& load) {
    const std::int64_t stride = padded(shape_.d_v);
    float* o = o_ + row * stride + column;
    Vec sums[R][N];
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < N; ++n) sums[r][n] = Lanes::load(o + r * stride + n * kWidth);
    }
    const float* weights = scores_ + std::int64_t{row} * kTileKeys;
    for (int key = 0; key < v.count; ++key) {
      fetch(ahead, key, 1, shape_.d_v);
      Vec right[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) right[n] = load(v.row[key] + column + n * kWidth);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Vec weight = Lanes::broadcast(weights[r * kTileKeys + key]);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[r][n] = Lanes::fma(weight, right[n], sums[r][n]);
      }
    }
    for (int r = 0; r < R; ++r) {
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
  float* q_;        // [rows][padded d_qk]
  float* o_;        // [rows][padded d_v]
  float* scores_;   // [rows][kTileKeys], scores, then weights
  float* maximum_;  // [rows]
  float* sum_;      // [rows]
  float* zeros_;    // a row of k or v of a hole
};

}  // namespace tilewise::cpu

// The block engine of instruction sets whose fastest float32 product is a broadcast fused multiply-add.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

/// Config (internal linkage) supplies Lanes, Packing (rows to packed float32 and back), kVectors (vectors in a strip of
/// queries) and kBlock (rows of a register block). Scores are kept as S^T[key][queries]: only q is packed, keys are
/// broadcast from their own rows, and softmax needs no horizontal operation.
template <class Config>
struct FmaEngine {
  using Lanes = typename Config::Lanes;
  using Vec = typename Lanes::Vec;
  static constexpr int kVectors = Config::kVectors;
  static constexpr int kStrip = kVectors * Lanes::kWidth;    // queries in a strip
  static constexpr int kBlock = Config::kBlock;              // keys, or columns of v, in a register block
  static constexpr int kTileKeys = Config::kTileKeys;        // keys in a tile
  static constexpr int kTileQueries = Config::kTileQueries;  // queries in a forward task

  static constexpr int kBackwardKeys = Config::kBackwardKeys;        // keys in a tile of a backward pass
  static constexpr int kBackwardQueries = Config::kBackwardQueries;  // queries in it

  template <int M>
  using Block = Accumulators<Lanes, M, kVectors>;

  /// Floats of one strip of packed q.
  static std::int64_t packed_q_floats(int d_qk) { return std::int64_t{d_qk} * kStrip; }
  /// Floats of the keys of a tile, used where they cannot be read in place.
  static std::int64_t packed_k_floats(int d_qk) { return std::int64_t{kTileKeys} * d_qk; }
  /// Floats of a tile of packed v.
  static std::int64_t packed_v_floats(int d_v) { return rounded_d_v(d_v) / kBlock * kPanelStride; }
  static int rounded_d_v(int d_v) { return (d_v + kBlock - 1) / kBlock * kBlock; }

  /// rows [count, d_qk] -> packed [d_qk][kStrip], times factor, columns past count zero.
  static void pack_q(const Rows& q, std::int64_t begin, int count, int d_qk, float factor, float* packed) {
    Config::Packing::transpose_in(q, begin, count, d_qk, factor, packed, kStrip);
  }

  /// Keys of a tile as float32 rows.
  struct Keys {
    const float* data;    // [keys, d_qk]
    std::int64_t stride;  // floats between rows
  };
  static Keys pack_k(const Rows& k, std::int64_t begin, int count, int d_qk, float* packed) {
    if (k.dtype == DType::float32) return {static_cast<const float*>(k.data) + begin * k.stride, k.stride};
    Config::Packing::widen_rows(k, begin, count, d_qk, packed);
    return {packed, d_qk};
  }

  /// rows [count, d_v] -> panels [ceil(d_v / kBlock)][count][kBlock], columns past d_v zero.
  static void pack_v(const Rows& v, std::int64_t begin, int count, int d_v, float* packed) {
    Config::Packing::pack_panels(v, begin, count, d_v, kBlock, kPanelStride, packed);
  }

  /// scores [keys][kStrip] = k q, k's rows from `first`; maximum [kVectors] is raised to each column's.
  static void qk_maximum(const float* packed_q, const Keys& k, int first, int keys, int d_qk, float* scores,
                         Vec* maximum) {
    Vec highest[kVectors];
    for (int n = 0; n < kVectors; ++n) highest[n] = maximum[n];
    rows_product(packed_q, k, first, keys, d_qk, scores, [&]<int M>(Block<M>& block) {
#pragma GCC unroll 8
      for (int n = 0; n < kVectors; ++n) {
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) highest[n] = Lanes::max(block.at[m][n], highest[n]);
      }
    });
    for (int n = 0; n < kVectors; ++n) maximum[n] = highest[n];
  }

  /// scores [keys][kStrip] = factor k q, k's rows from `first`.
  static void qk(const float* packed_q, const Keys& k, int first, int keys, int d_qk, float factor, float* scores) {
    const Vec factors = Lanes::broadcast(factor);
    rows_product(packed_q, k, first, keys, d_qk, scores, [&]<int M>(Block<M>& block) { block.scale(factors); });
  }

  /// o [rounded d_v][kStrip] += v^T weights, v's rows from `first` of its tile; weights [keys][kStrip], rows
  /// weights_stride apart.
  static void pv(const float* packed_v, int first, const float* weights, std::int64_t weights_stride, int keys, int d_v,
                 float* o) {
    packed_v += std::int64_t{first} * kBlock;
    for (int column = 0; column < d_v; column += kBlock, packed_v += kPanelStride, o += kBlock * kStrip) {
      Block<kBlock> block;
      block.load(o, kStrip);
      block.multiply(packed_v, 1, kBlock, weights, weights_stride, keys);
      block.store(o, kStrip);
    }
  }

  static constexpr int kPanel = Config::kPanelVectors * Lanes::kWidth;  // columns of q or d_o in a panel
  static constexpr int kRows = Config::kRows;                           // keys in a block of d_k or d_v
  static int rounded_to_panel(int d) { return (d + kPanel - 1) / kPanel * kPanel; }

  /// Rows of q or d_o as the right side of d_k or d_v: [count, d] -> [ceil(d / kPanel)][queries][kPanel]. Rows past
  /// count and columns past d are zero.
  static void pack_right(const Rows& rows, std::int64_t begin, int count, int queries, int d, float* packed) {
    const std::int64_t stride = std::int64_t{queries} * kPanel;
    if (count < queries) {
      for (std::int64_t i = 0; i < rounded_to_panel(d) / kPanel * stride; ++i) packed[i] = 0;
    }
    Config::Packing::pack_panels(rows, begin, count, d, kPanel, stride, packed);
  }

  /// out [kRows][rounded_to_panel(d)] += weights right over queries [begin, end) of `queries`; weights
  /// [kRows][queries], rows weights_stride apart; right as pack_right leaves it.
  static void accumulate_rows(const float* weights, std::int64_t weights_stride, int begin, int end, int queries,
                              const float* right, int d, float* out) {
    const int columns = rounded_to_panel(d);
    for (int column = 0; column < columns; column += kPanel, right += std::int64_t{queries} * kPanel) {
      Accumulators<Lanes, kRows, Config::kPanelVectors> block;
      block.load(out + column, columns);
      block.multiply(weights + begin, weights_stride, 1, right + begin * kPanel, kPanel, end - begin);
      block.store(out + column, columns);
    }
  }

  /// rows [count][columns] times factor -> [count, d].
  static void unpack_rows(const float* packed, int columns, float factor, std::int64_t begin, int count, int d,
                          const MutableRows& rows) {
    Config::Packing::narrow_rows(packed, columns, factor, begin, count, d, rows);
  }

  /// dots [kStrip] of the columns of a and b, both as pack_q leaves them, summed in the order of qk.
  static void column_dots(const float* a, const float* b, int d, float* dots) {
    for (int n = 0; n < kVectors; ++n) {
      Vec sum = Lanes::zero();
      for (int i = 0; i < d; ++i) {
        const std::int64_t at = std::int64_t{i} * kStrip + n * Lanes::kWidth;
        sum = Lanes::fma(Lanes::load(a + at), Lanes::load(b + at), sum);
      }
      Lanes::store(dots + n * Lanes::kWidth, sum);
    }
  }

  /// o [rounded d_v][kStrip], column c times factors[c] -> rows [count, d_v].
  static void unpack_o(const float* o, const float* factors, std::int64_t begin, int count, int d_v,
                       const MutableRows& rows) {
    Config::Packing::transpose_out(o, kStrip, factors, begin, count, d_v, rows);
  }

 private:
  // Panels start a cache line off a power of two, so that packing does not store to one cache set.
  static constexpr std::int64_t kPanelStride = kTileKeys * kBlock + 16;

  /// out [keys][kStrip] = k q; `finish` sees each block before it is stored.
  template <class Finish>
  static TILEWISE_INLINE void rows_product(const float* packed_q, const Keys& k, int first, int keys, int d_qk,
                                           float* out, const Finish& finish) {
    const float* row = k.data + first * k.stride;
    int key = 0;
    for (; key + kBlock <= keys; key += kBlock, row += kBlock * k.stride, out += kBlock * kStrip) {
      if (key + 2 * kBlock <= keys) prefetch(row + kBlock * k.stride, k.stride, d_qk);
      rows_block<kBlock>(packed_q, row, k.stride, d_qk, out, finish);
    }
    for (; key < keys; ++key, row += k.stride, out += kStrip) {
      rows_block<1>(packed_q, row, k.stride, d_qk, out, finish);
    }
  }

  template <int M, class Finish>
  static TILEWISE_INLINE void rows_block(const float* packed_q, const float* row, std::int64_t stride, int d_qk,
                                         float* out, const Finish& finish) {
    Block<M> block;
    block.clear();
    block.multiply(row, stride, 1, packed_q, kStrip, d_qk);
    finish.template operator()<M>(block);
    block.store(out, kStrip);
  }

  static TILEWISE_INLINE void prefetch(const float* row, std::int64_t stride, int d_qk) {
    for (int m = 0; m < kBlock; ++m, row += stride) {
      for (int column = 0; column < d_qk; column += 16) __builtin_prefetch(row + column);
    }
  }
};

}  // namespace tilewise::cpu

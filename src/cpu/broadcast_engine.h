// The block engine of instruction sets whose fastest product broadcasts one operand: fused multiply-adds of float32, or
// dot products of pairs.
#pragma once

#include <cstdint>
#include <numeric>
#include <type_traits>

#include "cpu/ahead.h"
#include "cpu/block.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

/// Config (internal linkage) supplies Lanes, Packing (rows to operands and back), kVectors (vectors in a strip of
/// queries), kBlock (rows of a register block), tile sizes, and kOperand, the type of a product's operands. Scores are
/// kept as S^T[key][queries]: only q is packed, keys are broadcast from their own rows, and softmax needs no horizontal
/// operation. An operand holds kDepth neighbours along the summed axis in each 32-bit lane; packed operands are float
/// pointers whatever is in the lanes.
template <class Config>
struct BroadcastEngine {
  using Lanes = typename Config::Lanes;
  using Packing = typename Config::Packing;
  using Vec = typename Lanes::Vec;
  static constexpr int kDepth = Lanes::kDepth;
  static constexpr DType kOperand = Config::kOperand;
  static constexpr int kVectors = Config::kVectors;
  static constexpr int kStrip = kVectors * Lanes::kWidth;    // queries in a strip
  static constexpr int kBlock = Config::kBlock;              // keys, or columns of v, in a register block
  static constexpr int kFew = 4;                             // and in one for what those leave over
  static constexpr int kTileKeys = Config::kTileKeys;        // keys in a tile
  static constexpr int kTileQueries = Config::kTileQueries;  // queries in a forward task

  static constexpr int kBackwardKeys = Config::kBackwardKeys;        // keys in a tile of a backward pass
  static constexpr int kBackwardQueries = Config::kBackwardQueries;  // queries in it

  /// Where products leave the vector units idle, an engine makes two of them beside what is made of them (see
  /// AmxEngine); here there is nothing to gain.
  static constexpr std::int64_t kRingFloats = 0;

  template <int M>
  using Block = Accumulators<Lanes, M, kVectors>;

  /// Lanes that n neighbours along the summed axis take.
  static constexpr int lanes_of(int n) { return (n + kDepth - 1) / kDepth; }

  /// Floats of one strip of packed q.
  static std::int64_t packed_q_floats(int d_qk) { return std::int64_t{lanes_of(d_qk)} * kStrip; }
  /// Floats of the keys of a tile, used where they cannot be read in place; whole cache lines.
  static std::int64_t packed_k_floats(int d_qk) { return std::int64_t{kTileKeys} * lanes_of(d_qk); }
  /// Floats of a tile of packed v.
  static std::int64_t packed_v_floats(int d_v) {
    return (columns_of_blocks(d_v) / kBlock + columns_of_few(d_v) / kFew) * kPanelStride;
  }
  static int rounded_d_v(int d_v) { return columns_of_blocks(d_v) + columns_of_few(d_v); }

  /// rows [count, d_qk] -> packed [lanes_of(d_qk)][kStrip], times factor, columns past count zero.
  static void pack_q(const Rows& q, std::int64_t begin, int count, int d_qk, float factor, float* packed) {
    Config::Packing::transpose_in(q, begin, count, d_qk, factor, packed, kStrip);
  }

  /// Keys of a tile as rows of operands.
  struct Keys {
    const float* data;    // [keys][lanes_of(d_qk)]
    std::int64_t stride;  // floats between rows
  };
  static Keys pack_k(const Rows& k, std::int64_t begin, int count, int d_qk, float* packed) {
    if (k.dtype == kOperand && d_qk % kDepth == 0 && k.stride % kDepth == 0) {
      return {static_cast<const float*>(k.data) + begin * k.stride / kDepth, k.stride / kDepth};
    }
    Config::Packing::widen_rows(k, begin, count, d_qk, packed);
    return {packed, lanes_of(d_qk)};
  }

  /// rows [count, d_v] -> panels [lanes_of(count)][kBlock], behind them those of kFew columns, columns past d_v zero.
  static void pack_v(const Rows& v, std::int64_t begin, int count, int d_v, float* packed) {
    const int wide = columns_of_blocks(d_v);
    Config::Packing::pack_panels(v, begin, count, wide < d_v ? wide : d_v, kBlock, kPanelStride, packed);
    if (wide >= d_v) return;
    Rows few = v;
    few.data = static_cast<const char*>(v.data) + wide * (v.dtype == DType::float32 ? 4 : 2);
    Config::Packing::pack_panels(few, begin, count, d_v - wide, kFew, kPanelStride,
                                 packed + wide / kBlock * kPanelStride);
  }

  /// pack_v for k as the right side of d_q, with zeros in place of NaN and infinity: a key that a row does not keep
  /// must not reach it through 0 * NaN, and in a row that keeps it the scores carry the NaN.
  static void pack_k_columns(const Rows& k, std::int64_t begin, int count, int d_qk, float* packed) {
    pack_v(k, begin, count, d_qk, packed);
    for_panels(d_qk, [&]<int kColumns>() {
      const int floats = lanes_of(count) * kColumns;
      // Panels have room for whole vectors behind their last key.
      for (int i = 0; i < floats; i += Lanes::kWidth) {
        Lanes::store(packed + i, Lanes::finite_or_zero(Lanes::load(packed + i)));
      }
      packed += kPanelStride;
    });
  }

  /// scores [keys][kStrip] = k q, k's rows from `first`; maximum [kVectors] is raised to each column's.
  static void qk_maximum(const float* packed_q, const Keys& k, int first, int keys, int d_qk, float* scores,
                         Vec* maximum, Ahead ahead) {
    Vec highest[kVectors];
    for (int n = 0; n < kVectors; ++n) highest[n] = maximum[n];
    rows_product(packed_q, k, first, keys, d_qk, scores, ahead, [&]<int M>(Block<M>& block) {
#pragma GCC unroll 8
      for (int n = 0; n < kVectors; ++n) {
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) highest[n] = Lanes::max(block.at[m][n], highest[n]);
      }
    });
    for (int n = 0; n < kVectors; ++n) maximum[n] = highest[n];
  }

  /// scores [keys][kStrip] = factor k q, k's rows from `first`. Not in line: among all else that a pass holds, the
  /// rows' addresses found no registers on AVX2, at an eighth of a forward pass with a score function.
  static __attribute__((noinline)) void qk(const float* packed_q, const Keys& k, int first, int keys, int d_qk,
                                           float factor, float* scores, Ahead ahead) {
    if (factor == 1) return rows_product(packed_q, k, first, keys, d_qk, scores, ahead, []<int M>(const Block<M>&) {});
    const Vec factors = Lanes::broadcast(factor);
    rows_product(packed_q, k, first, keys, d_qk, scores, ahead, [&]<int M>(Block<M>& block) { block.scale(factors); });
  }

  /// weights [keys][kStrip], float32, become the right side of pv in place: [lanes_of(keys)][kStrip].
  static void pack_p(float* weights, int keys) {
    if constexpr (kDepth == 2) {
      for (int key = 0; key < keys; key += 2) {
        for (int n = 0; n < kVectors; ++n) {
          const float* even = weights + std::int64_t{key} * kStrip + n * Lanes::kWidth;
          const Vec odd = key + 1 < keys ? Lanes::load(even + kStrip) : Lanes::zero();
          Lanes::store(weights + std::int64_t{key / 2} * kStrip + n * Lanes::kWidth,
                       Lanes::pair(Lanes::load(even), odd));
        }
      }
    }
  }

  /// o [rounded d_v][kStrip] += v^T weights, or with `is_first` = them, v's rows from `first`, a multiple of kDepth, of
  /// its tile; weights as pack_p leaves them, rows weights_stride apart.
  static void pv(const float* packed_v, int first, const float* weights, std::int64_t weights_stride, int keys, int d_v,
                 bool is_first, float* o, Ahead ahead) {
    for_panels(d_v, [&]<int kColumns>() {
      ahead.touch();
      Block<kColumns> block;
      is_first ? block.clear() : block.load(o, kStrip);
      block.multiply(packed_v + std::int64_t{first / kDepth} * kColumns, 1, kColumns, weights, weights_stride,
                     lanes_of(keys));
      block.store(o, kStrip);
      packed_v += kPanelStride;
      o += kColumns * kStrip;
    });
  }

  static constexpr int kPanel = Config::kPanelVectors * Lanes::kWidth;  // columns of q or d_o in a panel
  static constexpr int kRows = Config::kRows;                           // keys in a block of d_k or d_v
  static constexpr int kLeastRows = Config::kLeastRows;                 // and in one for a few that are left
  static int rounded_to_panel(int d) { return (d + kPanel - 1) / kPanel * kPanel; }

  /// Floats of a block of `queries` rows of q or d_o as the right side of d_k or d_v.
  static std::int64_t packed_right_floats(int queries, int d) {
    return std::int64_t{lanes_of(queries)} * rounded_to_panel(d);
  }

  /// rows [count, d] -> [ceil(d / kPanel)][lanes_of(queries)][kPanel]. Rows past count are zero, columns past d
  /// anything.
  static void pack_right(const Rows& rows, std::int64_t begin, int count, int queries, int d, float* packed) {
    if (count < queries) {
      for (std::int64_t i = 0; i < packed_right_floats(queries, d); ++i) packed[i] = 0;
    }
    Config::Packing::pack_panels(rows, begin, count, d, kPanel, std::int64_t{lanes_of(queries)} * kPanel, packed);
  }

  /// kStrip float32 neighbours -> lanes_of(kStrip) lanes of an operand.
  static TILEWISE_INLINE void pack_row(const Vec (&row)[kVectors], float* packed) {
    static_assert(kDepth == 2);
    if constexpr (kVectors == 2) {
      Lanes::store(packed, Lanes::halves(row[0], row[1]));
    } else {
      for (int n = 0; n < kVectors; ++n) Lanes::store_halves(packed + n * Lanes::kWidth / kDepth, row[n]);
    }
  }
  static TILEWISE_INLINE void pack_row(const float* row, float* packed) {
    Vec loaded[kVectors];
    for (int n = 0; n < kVectors; ++n) loaded[n] = Lanes::load(row + n * Lanes::kWidth);
    pack_row(loaded, packed);
  }

  /// out [M][rounded_to_panel(d)] += weights right over queries [begin, end) of `queries`, all multiples of kDepth;
  /// weights [M][lanes_of(queries)], rows weights_stride apart; right as pack_right leaves it. M: kRows or kLeastRows.
  template <int M>
  static void accumulate_rows(const float* weights, std::int64_t weights_stride, int begin, int end, int queries,
                              const float* right, int d, float* out) {
    const int columns = rounded_to_panel(d);
    weights += begin / kDepth;
    right += std::int64_t{begin / kDepth} * kPanel;
    const auto add = [&]<int N>(std::integral_constant<int, N>, int column) {
      Accumulators<Lanes, M, N> block;
      block.load(out + column, columns);
      block.multiply(weights, weights_stride, 1, right, kPanel, lanes_of(end - begin));
      block.store(out + column, columns);
    };
    for (int column = 0; column < columns; column += kPanel, right += std::int64_t{lanes_of(queries)} * kPanel) {
      // A last panel of which one vector is used: d 80 would pay for 96 columns.
      if (d - column <= Lanes::kWidth) {
        add(std::integral_constant<int, 1>(), column);
      } else {
        add(std::integral_constant<int, Config::kPanelVectors>(), column);
      }
    }
  }

  /// Whether the right side of d_k or d_v can be read from rows. Those further apart would share few sets of the cache.
  static bool reads_right(const Rows& rows, int d) {
    return kDepth == 1 && rows.dtype == DType::float32 && rows.stride == d && d % kPanel == 0;
  }

  /// accumulate_rows with rows from `query` on as the right side. Not in line: the other form is the one that counts
  /// where there is much to do.
  template <int M>
  static __attribute__((noinline)) void accumulate_from_rows(const float* weights, std::int64_t weights_stride,
                                                             int begin, int end, const Rows& rows, std::int64_t query,
                                                             int d, float* out) {
    const float* right = static_cast<const float*>(rows.data) + (query + begin) * rows.stride;
    for (int column = 0; column < d; column += kPanel) {
      Accumulators<Lanes, M, Config::kPanelVectors> block;
      block.load(out + column, d);
      block.multiply(weights + begin, weights_stride, 1, right + column, rows.stride, end - begin);
      block.store(out + column, d);
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
      for (int i = 0; i < lanes_of(d); ++i) {
        const std::int64_t at = std::int64_t{i} * kStrip + n * Lanes::kWidth;
        sum = Lanes::dot(Lanes::load(a + at), Lanes::load(b + at), sum);
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
  /// Of n keys or columns, those at the end that blocks of kFew take: so many that nothing is left over where n is a
  /// multiple of kRest, as spans and dimensions mostly are. 64 are ten blocks of 6 and one of 4.
  static constexpr int kRest = std::gcd(kBlock, kFew);
  static constexpr int in_blocks_of_few(int n) {
    int few = 0;
    while ((n - few) % kBlock >= kRest && few + kFew <= n) few += kFew;
    return few;
  }

  static int columns_of_few(int d) { return in_blocks_of_few((d + kRest - 1) / kRest * kRest); }
  static int columns_of_blocks(int d) { return (d - columns_of_few(d) + kBlock - 1) / kBlock * kBlock; }

  /// visit<kColumns>() for each panel of v.
  template <class Visit>
  static TILEWISE_INLINE void for_panels(int d_v, const Visit& visit) {
    const int wide = columns_of_blocks(d_v);
    for (int column = 0; column < wide; column += kBlock) visit.template operator()<kBlock>();
    if constexpr (kBlock == kFew) return;
    for (int column = wide; column < d_v; column += kFew) visit.template operator()<kFew>();
  }

  // Panels start a cache line off a power of two, so that packing does not store to one cache set.
  static constexpr std::int64_t kPanelStride = kTileKeys / kDepth * kBlock + 16;

  /// out [keys][kStrip] = k q; `finish` sees each block before it is stored.
  template <class Finish>
  static TILEWISE_INLINE void rows_product(const float* packed_q, const Keys& k, int first, int keys, int d_qk,
                                           float* out, Ahead ahead, const Finish& finish) {
    const float* row = k.data + first * k.stride;
    const int few = in_blocks_of_few(keys);
    int key = 0;
    for (; key + kBlock <= keys - few; key += kBlock, row += kBlock * k.stride, out += kBlock * kStrip) {
      ahead.touch();
      rows_block<kBlock>(packed_q, row, k.stride, d_qk, out, finish);
    }
    for (; kBlock > kFew && key + kFew <= keys; key += kFew, row += kFew * k.stride, out += kFew * kStrip) {
      rows_block<kFew>(packed_q, row, k.stride, d_qk, out, finish);
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
    block.multiply(row, stride, 1, packed_q, kStrip, lanes_of(d_qk));
    finish.template operator()<M>(block);
    block.store(out, kStrip);
  }
};

}  // namespace tilewise::cpu

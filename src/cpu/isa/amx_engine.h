// The block engine of AMX: products of 16 x 16 scores in tile registers. Written over a Tiles type, so that its layouts
// can be tested where no such registers are.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "cpu/broadcast_engine.h"
#include "cpu/isa/amx_packing.h"
#include "cpu/isa/amx_tiles.h"

namespace tilewise::cpu {
namespace {

/// The pairs and panels of the broadcasting engine, with other left sides: keys as they lie, v and k transposed. Tiles
/// (internal linkage) supplies load, store, zero, dot, configure and release.
template <class Tiles, class Config>
struct AmxEngine : BroadcastEngine<Config> {
  using Base = BroadcastEngine<Config>;
  using Registers = TileRegisters<Tiles>;
  using Base::kDepth, Base::kPanel, Base::kRows, Base::kStrip, Base::kTileKeys, Base::kVectors;
  using typename Base::Keys;
  using typename Base::Lanes;
  using typename Base::Vec;
  static_assert(kDepth == 2 && kStrip == 32 && kPanel == 32 && kRows % 32 == 0 && kTileKeys % 32 == 0);
  static_assert(Base::kBackwardQueries % kTileDepth == 0);

  /// Lanes of a row of n operands along the summed axis: whole tiles.
  static constexpr int whole_lanes_of(int n) { return (n + kTileDepth - 1) / kTileDepth * (kTileDepth / 2); }

  static std::int64_t packed_q_floats(int d_qk) { return std::int64_t{whole_lanes_of(d_qk)} * kStrip; }
  static std::int64_t packed_k_floats(int d_qk) { return std::int64_t{kTileKeys} * whole_lanes_of(d_qk); }
  static std::int64_t packed_v_floats(int d_v) { return rounded_d_v(d_v) * kColumnFloats; }
  static int rounded_d_v(int d_v) { return (d_v + kTileRows - 1) / kTileRows * kTileRows; }

  /// As the broadcasting engine's, rows past d_qk zero.
  static void pack_q(const Rows& q, std::int64_t begin, int count, int d_qk, float factor, float* packed) {
    Base::pack_q(q, begin, count, d_qk, factor, packed);
    for (std::int64_t i = std::int64_t{Base::lanes_of(d_qk)} * kStrip; i < packed_q_floats(d_qk); ++i) packed[i] = 0;
  }

  /// Rows far apart are packed: those of 32 heads of 128 lie 8 KiB apart, all in one set of the first-level cache.
  static Keys pack_k(const Rows& k, std::int64_t begin, int count, int d_qk, float* packed) {
    if (k.dtype == Base::kOperand && d_qk % kTileDepth == 0 && k.stride % kDepth == 0 && k.stride <= 2 * d_qk) {
      return {static_cast<const float*>(k.data) + begin * k.stride / kDepth, k.stride / kDepth};
    }
    const int present = Base::lanes_of(d_qk), lanes = whole_lanes_of(d_qk);
    for (int i = 0; i < count; ++i) {
      float* row = packed + std::int64_t{i} * lanes;
      Config::Packing::widen_rows(k, begin + i, 1, d_qk, row);
      for (int lane = present; lane < lanes; ++lane) row[lane] = 0;
    }
    return {packed, lanes};
  }

  // Keys whose scores are made at once, while those of the group before become weights: tile products leave the vector
  // units idle, and scores of two groups stay in L1.
  static constexpr int kGroup = 2 * kTileRows;
  static constexpr std::int64_t kGroupFloats = std::int64_t{kGroup} * kStrip;
  static constexpr std::int64_t kRingFloats = 2 * 2 * kGroupFloats;
  static constexpr int kParts = kGroup / kDepth;

  struct Product {
    const float* packed_q;
    Keys k;
    int d;
  };

  /// The products of two sides, k's rows from `first`, keys a multiple of kGroup, a group after the other. While the
  /// next ones are made, and after the last, use<part, share>(products, key, from) is called with key a group's first
  /// and products[2][kGroup][kStrip] its products: for each `share` of kParts from `from` on, with part from 0 to 3.
  /// kAhead as in TileBlock::multiply.
  template <bool kAhead, class Use>
  static TILEWISE_INLINE void two_products(const Product (&sides)[2], int first, int keys, float* ring, Ahead ahead,
                                           const Use& use) {
    const int steps = (whole_lanes_of(sides[0].d) + whole_lanes_of(sides[1].d)) / kTileRows;
    if (steps >= kParts) {
      products_beside<kAhead, 1>(sides, first, keys, ring, ahead, use);
    } else if (steps >= kParts / 2) {
      products_beside<kAhead, 2>(sides, first, keys, ring, ahead, use);
    } else {
      products_beside<kAhead, 4>(sides, first, keys, ring, ahead, use);
    }
  }

  /// pv of two strips whose weights are of the same whole groups of keys.
  static void pv_of_two(const float* packed_v, int first, const float* const (&weights)[2], int keys, int d_v,
                        float* const (&o)[2], Ahead ahead) {
    packed_v += first / kDepth;
    for (int column = 0; column < rounded_d_v(d_v);
         column += 2 * kTileRows, packed_v += 2 * kTileRows * kColumnFloats) {
      for (int i = 0; i < 2; ++i) {
        ahead.touch();
        // There and back: the weights of a strip, 16 KiB of 256 keys, are then in L1 every other time.
        const int strip = column / (2 * kTileRows) % 2 == 0 ? i : 1 - i;
        const auto add = [&]<int M>(std::integral_constant<int, M>) {
          columns_block<M>(packed_v, weights[strip], kStrip, keys / kTileDepth, o[strip] + column * kStrip);
        };
        column + kTileRows < rounded_d_v(d_v) ? add(std::integral_constant<int, 2>())
                                              : add(std::integral_constant<int, 1>());
      }
    }
  }

  /// rows [count, d_v] -> their transpose [rounded_d_v(d_v)][kColumnFloats] pairs, zero past d_v and past count up to
  /// the next whole pair.
  static void pack_v(const Rows& v, std::int64_t begin, int count, int d_v, float* packed) {
    pack_columns<false>(v, begin, count, d_v, packed);
  }
  static void pack_k_columns(const Rows& k, std::int64_t begin, int count, int d_qk, float* packed) {
    pack_columns<true>(k, begin, count, d_qk, packed);
  }

  static void qk_maximum(const float* packed_q, const Keys& k, int first, int keys, int d_qk, float* scores,
                         Vec* maximum, Ahead ahead) {
    Vec highest[kVectors];
    for (int n = 0; n < kVectors; ++n) highest[n] = maximum[n];
    rows_product(packed_q, k, first, keys, d_qk, scores, ahead, [&](const float* rows, int count) {
      for (int row = 0; row < count; ++row, rows += kStrip) {
#pragma GCC unroll 2
        for (int n = 0; n < kVectors; ++n) highest[n] = Lanes::max(Lanes::load(rows + n * Lanes::kWidth), highest[n]);
      }
    });
    for (int n = 0; n < kVectors; ++n) maximum[n] = highest[n];
  }

  static void qk(const float* packed_q, const Keys& k, int first, int keys, int d_qk, float factor, float* scores,
                 Ahead ahead) {
    const Vec factors = Lanes::broadcast(factor);
    rows_product(packed_q, k, first, keys, d_qk, scores, ahead, [&](float* rows, int count) {
      if (factor == 1) return;
      for (int i = 0; i < count * kStrip; i += Lanes::kWidth) {
        Lanes::store(rows + i, Lanes::mul(Lanes::load(rows + i), factors));
      }
    });
  }

  static void pv(const float* packed_v, int first, const float* weights, std::int64_t weights_stride, int keys, int d_v,
                 bool is_first, float* o, Ahead ahead) {
    if (is_first) {
      for (std::int64_t i = 0; i < std::int64_t{rounded_d_v(d_v)} * kStrip; ++i) o[i] = 0;
    }
    packed_v += first / kDepth;
    const int whole = keys / kTileDepth * kTileDepth, rest = (keys - whole + 1) / 2 * 2;
    if (whole > 0) columns_product(packed_v, weights, weights_stride, whole / kTileDepth, d_v, o, ahead);
    if (rest == 0) return;
    packed_v += whole / kDepth;
    weights += whole / kDepth * weights_stride;
    Registers::with_shapes(kTileRows, rest,
                           [&] { columns_product(packed_v, weights, weights_stride, 1, d_v, o, ahead); });
  }

  template <int M>
  static void accumulate_rows(const float* weights, std::int64_t weights_stride, int begin, int end, int queries,
                              const float* right, int d, float* out) {
    constexpr int kBlockRows = 2 * kTileRows;
    static_assert(M % kBlockRows == 0);
    const int columns = Base::rounded_to_panel(d);
    const std::int64_t panel_floats = std::int64_t{Base::lanes_of(queries)} * kPanel;
    const int steps = (end - begin) / kTileDepth;
    weights += begin / kDepth;
    right += std::int64_t{begin / kDepth} * kPanel;
    for (int column = 0; column < columns; column += kPanel, right += panel_floats) {
      for (int done = 0; done < M; done += kBlockRows) {
        // There and back, as in pv_of_two.
        const int row = column / kPanel % 2 == 0 ? done : M - kBlockRows - done;
        float* sums = out + std::int64_t{row} * columns + column;
        Block<2>::load(sums, columns);
        Block<2>::multiply(
            {weights + row * weights_stride, 4 * weights_stride, kTileRows * 4 * weights_stride, kTileDepth * 2},
            {right, 4 * kPanel, 64, kTileRows * 4 * kPanel}, steps);
        Block<2>::store(sums, columns);
      }
    }
  }

  /// dots [kStrip] of the columns of a and b, summed as tiles are: even and odd halves of 32 apart, then their sum.
  static void column_dots(const float* a, const float* b, int d, float* dots) {
    for (int n = 0; n < kVectors; ++n) {
      Vec sum = Lanes::zero();
      for (int first = 0; first < whole_lanes_of(d); first += kTileRows) {
        Vec even = Lanes::zero(), odd = Lanes::zero();
        for (int i = first; i < first + kTileRows; ++i) {
          const Vec x = Lanes::load(a + std::int64_t{i} * kStrip + n * Lanes::kWidth);
          const Vec y = Lanes::load(b + std::int64_t{i} * kStrip + n * Lanes::kWidth);
          even = Lanes::fma(Lanes::low_of_pair(x), Lanes::low_of_pair(y), even);
          odd = Lanes::fma(Lanes::high_of_pair(x), Lanes::high_of_pair(y), odd);
        }
        sum = Lanes::add(sum, Lanes::add(even, odd));
      }
      Lanes::store(dots + n * Lanes::kWidth, sum);
    }
  }

 private:
  template <int M>
  using Block = TileBlock<Tiles, M>;

  /// two_products by a constant share, so that what its use holds stays in registers. With d up to 32, what no step is
  /// left for comes after the group's products.
  template <bool kAhead, int kShare, class Use>
  static TILEWISE_INLINE void products_beside(const Product (&sides)[2], int first, int keys, float* ring, Ahead ahead,
                                              const Use& use) {
    float *now = ring, *before = ring + 2 * kGroupFloats;
    const auto use_all = [&](int key, int from) __attribute__((always_inline)) {
      use.template operator()<0, kShare>(before, key, from);
      use.template operator()<1, kShare>(before, key, from);
      use.template operator()<2, kShare>(before, key, from);
      use.template operator()<3, kShare>(before, key, from);
    };
    for (int key = 0; key < keys; key += kGroup) {
      int used = key == 0 ? kParts : 0;
      for (int side = 0; side < 2; ++side) {
        ahead.touch();
        const Keys& k = sides[side].k;
        const float* row = k.data + (first + key) * k.stride;
        Block<2>::clear();
        Block<2>::template multiply<kAhead>(
            {row, 4 * k.stride, kTileRows * 4 * k.stride, kTileDepth * 2},
            {sides[side].packed_q, 4 * kStrip, 64, kTileRows * 4 * kStrip},
            whole_lanes_of(sides[side].d) / kTileRows, [&]<int kPart>() __attribute__((always_inline)) {
              if (used == kParts) return;
              use.template operator()<kPart, kShare>(before, key - kGroup, used);
              if constexpr (kPart == 3) used += kShare;
            });
        Block<2>::store(now + side * kGroupFloats, kStrip);
      }
      for (; used < kParts; used += kShare) use_all(key - kGroup, used);
      std::swap(now, before);
    }
    for (int from = 0; from < kParts; from += kShare) use_all(keys - kGroup, from);
  }

  // An odd number of cache lines, so that the rows of a tile share no set.
  static constexpr std::int64_t kColumnFloats = kTileKeys / kDepth + 16;

  template <bool kFinite>
  static void pack_columns(const Rows& rows, std::int64_t begin, int count, int d, float* packed) {
    Config::Packing::transpose_pairs_of_rows(rows, begin, count, d, kFinite, packed, kColumnFloats);
    for (std::int64_t i = d * kColumnFloats; i < rounded_d_v(d) * kColumnFloats; ++i) packed[i] = 0;
  }

  /// out [keys][kStrip] = k q; `finish` sees each group of rows once, after it is stored.
  template <class Finish>
  static TILEWISE_INLINE void rows_product(const float* packed_q, const Keys& k, int first, int keys, int d_qk,
                                           float* out, Ahead ahead, const Finish& finish) {
    constexpr int kGroup = 2 * kTileRows;
    const float* row = k.data + first * k.stride;
    const int whole = keys / kGroup * kGroup;
    // One group behind: stores from tile registers are slow to be seen by loads.
    for (int key = 0; key < whole; key += kGroup, row += kGroup * k.stride) {
      for (int i = 0; i < kGroup; i += Base::kBlock) ahead.touch();
      rows_block<2>(packed_q, row, k.stride, d_qk, out + key * kStrip);
      if (key > 0) finish(out + (key - kGroup) * kStrip, kGroup);
    }
    if (whole > 0) finish(out + (whole - kGroup) * kStrip, kGroup);
    for (int key = whole; key < keys; key += kTileRows, row += kTileRows * k.stride) {
      const int rows = keys - key < kTileRows ? keys - key : kTileRows;
      const auto product = [&] { rows_block<1>(packed_q, row, k.stride, d_qk, out + key * kStrip); };
      if (rows == kTileRows) {
        product();
      } else {
        Registers::with_shapes(rows, kTileDepth, product);
      }
      finish(out + key * kStrip, rows);
    }
  }

  template <int M>
  static TILEWISE_INLINE void rows_block(const float* packed_q, const float* row, std::int64_t stride, int d_qk,
                                         float* out) {
    Block<M>::clear();
    Block<M>::multiply({row, 4 * stride, kTileRows * 4 * stride, kTileDepth * 2},
                       {packed_q, 4 * kStrip, 64, kTileRows * 4 * kStrip}, whole_lanes_of(d_qk) / kTileRows);
    Block<M>::store(out, kStrip);
  }

  /// o [rounded d_v][kStrip] += columns weights over `steps` tiles of keys.
  static TILEWISE_INLINE void columns_product(const float* columns, const float* weights, std::int64_t weights_stride,
                                              int steps, int d_v, float* o, Ahead& ahead) {
    int column = 0;
    for (; column + kTileRows < rounded_d_v(d_v); column += 2 * kTileRows) {
      for (int i = 0; i < 2 * kTileRows; i += Base::kBlock) ahead.touch();
      columns_block<2>(columns + column * kColumnFloats, weights, weights_stride, steps, o + column * kStrip);
    }
    if (column < rounded_d_v(d_v)) {
      columns_block<1>(columns + column * kColumnFloats, weights, weights_stride, steps, o + column * kStrip);
    }
  }

  template <int M>
  static TILEWISE_INLINE void columns_block(const float* columns, const float* weights, std::int64_t weights_stride,
                                            int steps, float* o) {
    Block<M>::load(o, kStrip);
    Block<M>::multiply({columns, 4 * kColumnFloats, kTileRows * 4 * kColumnFloats, kTileDepth * 2},
                       {weights, 4 * weights_stride, 64, kTileRows * 4 * weights_stride}, steps);
    Block<M>::store(o, kStrip);
  }
};

}  // namespace
}  // namespace tilewise::cpu

// The products of decoding bfloat16 by dot products of pairs: queries are bfloat16 as they come, weights are rounded to
// it, as in the forward pass of such an engine.
#pragma once

#include <cstdint>

#include "cpu/decode_blocks.h"
#include "cpu/decode_tiles.h"
#include "cpu/element.h"

namespace tilewise::cpu {

/// Of instruction sets without such products: nothing is multiplied here.
template <class Lanes, int kTileKeys, bool kHasThem = Lanes::kDepth == 2>
class DecodePairs {
 public:
  static constexpr bool kAvailable = false;
  static std::int64_t query_floats(std::int64_t) { return 0; }
};

/// A vector holds pairs of neighbours: columns of a key, or rows of values.
template <class Lanes, int kTileKeys>
class DecodePairs<Lanes, kTileKeys, true> {
 public:
  static constexpr bool kAvailable = true;
  using Tiles = DecodeTiles<Lanes, kTileKeys>;
  using Vec = typename Lanes::Vec;

  /// Floats that a row of queries takes, whose floats are `padded`.
  static std::int64_t query_floats(std::int64_t padded) { return (padded + kColumns - 1) / kColumns * Lanes::kWidth; }

  /// q: [padded] floats, a multiple of lanes -> [query_floats] pairs.
  static void pack_query(const float* q, std::int64_t padded, float* pairs) {
    Lanes::store(pairs + query_floats(padded) - Lanes::kWidth, Lanes::zero());
    for (std::int64_t i = 0; i < padded; i += Lanes::kWidth) Lanes::store_halves(pairs + i / 2, Lanes::load(q + i));
  }

  /// As DecodeBlocks::products, of packed queries.
  template <int R, bool kAhead>
  static void products(const float* q, std::int64_t q_stride, int d, Tiles& tiles, float* scores) {
    DecodeBlocks<Lanes, kTileKeys>::template products<R, kAhead, Operand>(q, q_stride, d, tiles, scores);
  }

  /// o [R][o_stride] += weights v, of R rows and the tile's keys; o is padded to lanes.
  template <int R, bool kAhead>
  static void accumulate(const float* weights, Tiles& tiles, int d, float* o, std::int64_t o_stride) {
    alignas(64) float pairs[R][kTileKeys / 2];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < kTileKeys; i += Lanes::kWidth)
        Lanes::store_halves(&pairs[r][i / 2], Lanes::load(weights + r * kTileKeys + i));
    }
    typename Tiles::Ahead ahead(tiles);
    int column = 0;
    for (; column + kBlock <= d; column += kBlock)
      accumulate<R, kBlock / kColumns, true, kAhead>(pairs, tiles, ahead, column, kColumns, o + column, o_stride);
    for (; column + kColumns <= d; column += kColumns)
      accumulate<R, 1, true, kAhead>(pairs, tiles, ahead, column, kColumns, o + column, o_stride);
    if (column < d) accumulate<R, 1, false, false>(pairs, tiles, ahead, column, d - column, o + column, o_stride);
  }

 private:
  static constexpr int kColumns = 2 * Lanes::kWidth;                    // a line of bfloat16
  static constexpr int kBlock = Lanes::kDecodeVectors * Lanes::kWidth;  // columns of a block of outputs

  struct Operand {
    using Element = BFloat16;
    static constexpr int kColumns = DecodePairs::kColumns;
    static TILEWISE_INLINE Vec load(const BFloat16* p) { return Lanes::load_pairs(p); }
    static TILEWISE_INLINE Vec load_first(const BFloat16* p, int count) { return Lanes::load_first_pairs(p, count); }
    static TILEWISE_INLINE Vec multiply(Vec a, Vec b, Vec sum) { return Lanes::dot(a, b, sum); }
  };

  /// N times kColumns columns; those from `count` on are not there (N is 1 then).
  template <int R, int N, bool kWhole, bool kAhead>
  static TILEWISE_INLINE void accumulate(const float (&weights)[R][kTileKeys / 2], const Tiles& tiles,
                                         typename Tiles::Ahead& ahead, int column, int count, float* o,
                                         std::int64_t o_stride) {
    const bool has_second = kWhole || count > Lanes::kWidth;  // of the two vectors that kColumns outputs fill
    Vec sums[R][2 * N];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        const float* from = o + r * o_stride + n * kColumns;
        Lanes::to_pair_order(Lanes::load(from), has_second ? Lanes::load(from + Lanes::kWidth) : Lanes::zero(),
                             sums[r][2 * n], sums[r][2 * n + 1]);
      }
    }
    const auto load = [&](int key, int n) {
      const auto* p = static_cast<const BFloat16*>(tiles.v()[key]) + column + n * kColumns;
      return kWhole ? Lanes::load_pairs(p) : Lanes::load_first_pairs(p, count);
    };
    const auto add = [&](int key, const auto& second) {
      Vec pairs[2 * N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) Lanes::pair_rows(load(key, n), second(n), pairs[2 * n], pairs[2 * n + 1]);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Vec weight = Lanes::broadcast_from(&weights[r][key / 2]);
#pragma GCC unroll 8
        for (int n = 0; n < 2 * N; ++n) sums[r][n] = Lanes::dot(weight, pairs[n], sums[r][n]);
      }
    };
    int key = 0;
    for (; key + 2 <= tiles.count(); key += 2) {
      if constexpr (kAhead) ahead.template touch<2 * N>();
      add(key, [&](int n) { return load(key + 1, n); });
    }
    if (key < tiles.count()) add(key, [](int) { return Lanes::zero(); });
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        Vec first, second;
        Lanes::from_pair_order(sums[r][2 * n], sums[r][2 * n + 1], first, second);
        float* to = o + r * o_stride + n * kColumns;
        Lanes::store(to, first);
        if (has_second) Lanes::store(to + Lanes::kWidth, second);
      }
    }
  }
};

}  // namespace tilewise::cpu

// The products of decoding, in register blocks of a few query rows: rows of k and v are read as they lie, and each of
// their elements is converted once for all rows of a block.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/decode_tiles.h"

namespace tilewise::cpu {

/// Elements of k as float32 against q as float32.
template <class Lanes, class K>
struct DecodeWidened {
  using Element = K;
  static constexpr int kColumns = Lanes::kWidth;  // of a vector
  static TILEWISE_INLINE auto load(const K* p) { return Lanes::load(p); }
  static TILEWISE_INLINE auto load_first(const K* p, int count) { return Lanes::load_first(p, count); }
  template <class Vec>
  static TILEWISE_INLINE Vec multiply(Vec a, Vec b, Vec sum) {
    return Lanes::fma(a, b, sum);
  }
};

/// Scores and weights are [rows][kTileKeys].
template <class Lanes, int kTileKeys>
class DecodeBlocks {
 public:
  using Tiles = DecodeTiles<Lanes, kTileKeys>;
  using Vec = typename Lanes::Vec;
  static constexpr int kRows = 4;  // most query rows of a block

  /// scores = q k, unscaled, of R rows and the tile's keys. q: [R][q_stride] floats, operands of d columns zero-padded
  /// to whole vectors. kAhead: memory is asked for meanwhile.
  template <int R, bool kAhead, class Operand>
  static void products(const float* q, std::int64_t q_stride, int d, Tiles& tiles, float* scores) {
    typename Tiles::Ahead ahead(tiles);
    int key = 0;
    for (; key + kKeys <= tiles.count(); key += kKeys)
      products<R, kKeys, kAhead, Operand>(q, q_stride, d, tiles.k() + key, ahead, scores + key);
    for (; key < tiles.count(); ++key)
      products<R, 1, kAhead, Operand>(q, q_stride, d, tiles.k() + key, ahead, scores + key);
  }

  /// o [R][o_stride] += weights v, of R rows and the tile's keys, of which there are some.
  template <int R, bool kAhead, class V>
  static void accumulate(const float* weights, Tiles& tiles, int d, float* o, std::int64_t o_stride) {
    typename Tiles::Ahead ahead(tiles);
    int column = 0;
    const auto load = [](const V* p) { return Lanes::load(p); };
    const auto block = [&]<int N>(const auto& load_columns) {
      accumulate<R, N, kAhead, V>(weights, tiles, column, ahead, o + column, o_stride, load_columns);
    };
    constexpr int kColumns = kVectors * Lanes::kWidth;
    for (; column + kColumns <= d; column += kColumns) block.template operator()<kVectors>(load);
    for (; column + Lanes::kWidth <= d; column += Lanes::kWidth) block.template operator()<1>(load);
    const int left = d - column;
    if (left > 0) block.template operator()<1>([left](const V* p) { return Lanes::load_first(p, left); });
  }

 private:
  static constexpr int kKeys = Lanes::kDecodeRows;        // keys of a register block of products
  static constexpr int kVectors = Lanes::kDecodeVectors;  // vectors of a register block of outputs
  static_assert(kKeys == 2 || kKeys == 4);

  template <int R, int M, bool kAhead, class Operand>
  static TILEWISE_INLINE void products(const float* q, std::int64_t q_stride, int d, const void* const* k,
                                       typename Tiles::Ahead& ahead, float* scores) {
    Vec sums[R][M];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sums[r][m] = Lanes::zero();
    }
    using K = typename Operand::Element;
    constexpr int kColumns = Operand::kColumns, kLineColumns = static_cast<int>(Tiles::kLine / sizeof(K));
    const K* keys[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) keys[m] = static_cast<const K*>(k[m]);
    const auto step = [&](std::int64_t column, const auto& load) {
      Vec right[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        right[r] = Lanes::load(q + r * q_stride + column * Lanes::kWidth / kColumns);
      }
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const Vec left = load(keys[m] + column);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[r][m] = Operand::multiply(left, right[r], sums[r][m]);
      }
    };
    const auto load = [](const K* p) { return Operand::load(p); };
    int column = 0;
    for (; column + kLineColumns <= d; column += kLineColumns) {
      if constexpr (kAhead) ahead.template touch<M>();
#pragma GCC unroll 8
      for (int i = 0; i < kLineColumns; i += kColumns) step(column + i, load);
    }
    for (; column + kColumns <= d; column += kColumns) step(column, load);
    const int left = d - column;
    if (left > 0) step(column, [left](const K* p) { return Operand::load_first(p, left); });
    store_sums<R, M>(sums, scores);
  }

  /// scores[r][m] = the sum of sums[r][m]'s lanes.
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
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) scores[r * kTileKeys + m] = Lanes::sum_of(sums[r][m]);
      }
    }
  }

  template <int R, int N, bool kAhead, class V, class Load>
  static TILEWISE_INLINE void accumulate(const float* weights, const Tiles& tiles, int column,
                                         typename Tiles::Ahead& ahead, float* o, std::int64_t o_stride,
                                         const Load& load) {
    Vec sums[R][N];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[r][n] = Lanes::load(o + r * o_stride + n * Lanes::kWidth);
    }
    // Blocks of less than a line take turns.
    constexpr int kBytes = N * Lanes::kWidth * static_cast<int>(sizeof(V)), kLine = Tiles::kLine;
    constexpr int kLines = kBytes < kLine ? 1 : kBytes / kLine;
    const bool asks = kAhead && (kBytes % kLine == 0 || column * static_cast<int>(sizeof(V)) % kLine == 0);
    const void* const* v = tiles.v();
    const int count = tiles.count();
    int key = 0;
    do {
      if (asks) ahead.template touch<kLines>();
      const V* row = static_cast<const V*>(v[key]) + column;
      Vec right[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) right[n] = load(row + n * Lanes::kWidth);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Vec weight = Lanes::broadcast(weights[r * kTileKeys + key]);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[r][n] = Lanes::fma(weight, right[n], sums[r][n]);
      }
    } while (++key < count);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) Lanes::store(o + r * o_stride + n * Lanes::kWidth, sums[r][n]);
    }
  }
};

}  // namespace tilewise::cpu

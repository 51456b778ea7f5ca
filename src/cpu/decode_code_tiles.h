// The products of decoding from int8 caches in AMX's tile registers: a tile of 16 keys, as they lie, against all digits
// of a block's queries at once, and all digits of its weights against a tile of values, 64 keys deep.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/decode_digits.h"
#include "cpu/decode_tiles.h"

namespace tilewise::cpu {

/// As DecodeCodes. Lanes::Registers (internal linkage) supplies tiles of 16 rows of 64 bytes, which the caller has
/// configured: load, store, zero, dot_signed, dot_unsigned.
template <class Lanes, int kTileKeys>
class DecodeCodeTiles {
  using Digits = DecodeDigits<Lanes, kTileKeys>;
  using Registers = typename Lanes::Registers;

 public:
  static constexpr bool kAvailable = true;
  using Tiles = DecodeTiles<Lanes, kTileKeys>;
  using Vec = typename Lanes::Vec;
  using Ints = typename Lanes::Ints;
  static constexpr int kRows = Digits::kRows;

  struct alignas(64) Head {
    float unit[4][kRows];  // the same four times
    bool usable;
  };
  /// Digits: [ceil(d / 64)][16][4 digits, the upper first][kRows][4]: four columns to a lane.
  using Queries = DigitQueries<Head, std::int8_t>;

  static std::int64_t query_floats(std::int64_t padded_d) {
    return static_cast<std::int64_t>((sizeof(Head) + chunks_of(padded_d) * kTileBytes) / sizeof(float));
  }

  /// q: [count][q_stride], d of them zero-padded to lanes.
  template <int kDigits>
  static void round(const float* q, std::int64_t q_stride, int d, int count, const Queries& queries) {
    __builtin_memset(queries.digits, 0, chunks_of(d) * kTileBytes);
    queries.head->usable = true;
    for (int r = 0; r < count; ++r) {
      float* unit = queries.head->unit[0] + r;
      queries.head->usable &= Digits::template round<kDigits>(q + r * q_stride, d, unit, [&](int i, Ints x) {
        alignas(64) std::uint8_t bytes[kDigits][Lanes::kWidth];
        const Ints moved = Lanes::add(x, Lanes::broadcast_int(Digits::template kMiddle<kDigits>));
        Digits::template store<kDigits>(Lanes::flip_signs(moved), bytes[0], Lanes::kWidth);
        for (int digit = 0; digit < kDigits; ++digit) {
          for (int j = 0; j < Lanes::kWidth; j += 4) {
            __builtin_memcpy(queries.digits + 16 * (i + j) + 4 * (digit * kRows + r), bytes[digit] + j, 4);
          }
        }
      });
      for (int i = 1; i < 4; ++i) unit[i * kRows] = *unit;
    }
  }

  /// scores = q k, unscaled, of R rows and the tile's keys in whole lanes.
  template <int kDigits, int R, bool kAhead>
  static void products(const Queries& queries, int d, Tiles& tiles, float* scores) {
    alignas(64) std::int32_t sums[kTileKeys][16];
    typename Tiles::Ahead ahead(tiles);
    multiply_keys<kAhead, 0>(queries, d, tiles, ahead, sums);
    multiply_keys<kAhead, 1>(queries, d, tiles, ahead, sums);
    multiply_keys<kAhead, 2>(queries, d, tiles, ahead, sums);
    multiply_keys<kAhead, 3>(queries, d, tiles, ahead, sums);
    const Vec unit = Lanes::load(queries.head->unit[0]);
    for (int key = 0; key < tiles.count(); key += Lanes::kWidth) {
      Vec rows[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Ints digits[kDigits];
        Lanes::digits_of_keys(sums[key + i], digits);
        rows[i] = Digits::template total<kDigits>(digits, unit);
      }
      Lanes::transpose_fours(rows);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) Lanes::store(scores + r * kTileKeys + key, rows[r]);
    }
  }

  /// o [R][o_stride] += weights v, of R rows and the tile's keys. False: nothing was added, for weights have no such
  /// form, as one is negative, not finite, or all of a row are tiny.
  template <int kDigits, int R, bool kAhead>
  static bool accumulate(const float* weights, Tiles& tiles, int d, float* o, std::int64_t o_stride) {
    typename Digits::Weights rounded;
    for (int r = 0; r < R; ++r) {
      if (!Digits::template round<kDigits>(weights + r * kTileKeys, r, rounded)) return false;
    }
    Registers::template load<4>(rounded.digits, kTileKeys);
    typename Tiles::Ahead ahead(tiles);
    for (int column = 0; column < d; column += kPass * kTileBytesOfRow) {
      alignas(64) std::int8_t values[kPass][4][16][kTileBytesOfRow];
      interleave<kAhead>(tiles, ahead, column, d, values);
      for (int chunk = 0; chunk < kPass; ++chunk) {
        const int first = column + chunk * kTileBytesOfRow;
        if (first < d) multiply_values<kDigits, R>(values[chunk], rounded.unit, o + first, o_stride, d - first);
      }
    }
    return true;
  }

 private:
  static constexpr int kTileBytesOfRow = 64;
  static constexpr std::size_t kTileBytes = 16 * kTileBytesOfRow;
  static constexpr int kPass = 2;  // lines of a value that are read together
  static_assert(kTileKeys == kTileBytesOfRow && Lanes::kWidth == 16);

  static std::size_t chunks_of(std::int64_t d) {
    return static_cast<std::size_t>((d + kTileBytesOfRow - 1) / kTileBytesOfRow);
  }

  /// Sixteen keys from 16 kGroup on, whose sums have a register of their own.
  template <bool kAhead, int kGroup>
  static TILEWISE_INLINE void multiply_keys(const Queries& queries, int d, const Tiles& tiles,
                                            typename Tiles::Ahead& ahead, std::int32_t (*sums)[16]) {
    const void* const* rows = tiles.k() + 16 * kGroup;
    const auto stride = static_cast<const char*>(rows[1]) - static_cast<const char*>(rows[0]);
    bool even = d % kTileBytesOfRow == 0;
    for (int i = 0; i < 16; ++i) even &= rows[i] == static_cast<const char*>(rows[0]) + i * stride;
    alignas(64) std::int8_t staged[16][kTileBytesOfRow];
    const auto step = [&]<int kSide>(int column) {
      // Both tiles of queries of up to 128 columns stay where they are.
      if (kGroup == 0 || d > 2 * kTileBytesOfRow) {
        Registers::template load<6 + kSide>(queries.digits + 16 * column, kTileBytesOfRow);
      }
      const int left = d - column;
      if constexpr (kAhead) {
        if (left >= kTileBytesOfRow) ahead.template touch<16>();
      }
      if (even) {
        Registers::template load<4 + kSide>(static_cast<const char*>(rows[0]) + column, stride);
      } else {
        for (int i = 0; i < 16; ++i) {
          Lanes::copy_bytes(static_cast<const std::int8_t*>(rows[i]) + column, left, staged[i]);
        }
        Registers::template load<4 + kSide>(staged, kTileBytesOfRow);
      }
      Registers::template dot_signed<kGroup, 4 + kSide, 6 + kSide>();
    };
    Registers::template zero<kGroup>();
    for (int column = 0; column < d; column += 2 * kTileBytesOfRow) {
      step.template operator()<0>(column);
      if (column + kTileBytesOfRow < d) step.template operator()<1>(column + kTileBytesOfRow);
    }
    Registers::template store<kGroup>(sums[16 * kGroup], kTileBytesOfRow);
  }

  /// values[chunk][m]: of the columns in that part of Lanes::rows_of, four keys to a lane.
  template <bool kAhead>
  static TILEWISE_INLINE void interleave(const Tiles& tiles, typename Tiles::Ahead& ahead, int column, int d,
                                         std::int8_t (&values)[kPass][4][16][kTileBytesOfRow]) {
    for (int key = 0; key < kTileKeys; key += 4) {
      for (int chunk = 0; chunk < kPass; ++chunk) {
        const int first = column + chunk * kTileBytesOfRow, left = d - first;
        if (left <= 0) break;
        // A quarter is asked for beside the softmax.
        if (kAhead && left >= kTileBytesOfRow && key % 16 != 12) ahead.template touch<4>();
        Ints parts[4];
        if (left >= kTileBytesOfRow) {
          Lanes::template parts_of<true>(tiles.v() + key, first, left, parts);
        } else {
          Lanes::template parts_of<false>(tiles.v() + key, first, left, parts);
        }
#pragma GCC unroll 4
        for (int m = 0; m < 4; ++m) Lanes::store_ints(values[chunk][m][key / 4], parts[m]);
      }
    }
  }

  /// o [R][o_stride] += weights, in register 4, times a chunk's values, of which `count` columns are there.
  template <int kDigits, int R>
  static TILEWISE_INLINE void multiply_values(const std::int8_t (&values)[4][16][kTileBytesOfRow], const float* unit,
                                              float* o, std::int64_t o_stride, int count) {
    alignas(64) std::int32_t sums[4][16][16];
    const auto part = [&]<int kPart>() {
      Registers::template zero<kPart>();
      Registers::template load<6 + kPart % 2>(values[kPart], kTileBytesOfRow);
      Registers::template dot_unsigned<kPart, 4, 6 + kPart % 2>();
      Registers::template store<kPart>(sums[kPart], kTileBytesOfRow);
    };
    part.template operator()<0>();
    part.template operator()<1>();
    part.template operator()<2>();
    part.template operator()<3>();
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec units = Lanes::broadcast(unit[r]);
      Vec total[4];
#pragma GCC unroll 4
      for (int m = 0; m < 4; ++m) {
        Ints digits[kDigits];
#pragma GCC unroll 3
        for (int digit = 0; digit < kDigits; ++digit) digits[digit] = Lanes::load_ints(sums[m][digit * kRows + r]);
        total[m] = Digits::template total<kDigits>(digits, units);
      }
      Lanes::template add_to<0>(o + r * o_stride, count, total[0], total[1]);
      Lanes::template add_to<1>(o + r * o_stride, count, total[2], total[3]);
    }
  }
};

}  // namespace tilewise::cpu

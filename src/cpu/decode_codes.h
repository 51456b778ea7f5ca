// The products of decoding from int8 caches by integer dot products of vectors.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/decode_digits.h"
#include "cpu/decode_tiles.h"

namespace tilewise::cpu {

/// Of instruction sets without such products: nothing is multiplied here.
template <class Lanes, int kTileKeys, bool kHasThem = requires { typename Lanes::Ints; }
> class DecodeCodes {
 public:
  static constexpr bool kAvailable = false;
  struct Queries {};
  static std::int64_t query_floats(std::int64_t) { return 0; }
};

/// kDigits: bytes of a query's or a weight's integer.
template <class Lanes, int kTileKeys>
class DecodeCodes<Lanes, kTileKeys, true> {
  using Digits = DecodeDigits<Lanes, kTileKeys>;

 public:
  static constexpr bool kAvailable = true;
  using Tiles = DecodeTiles<Lanes, kTileKeys>;
  using Vec = typename Lanes::Vec;
  using Ints = typename Lanes::Ints;
  static constexpr int kRows = Digits::kRows;
  static constexpr int kMostDigits = Digits::kMostDigits;

  struct alignas(64) Head {
    float unit[kRows];
    std::int32_t offset[2][kRows];  // what codes moved by 128 add to the sums of the upper digits, and of the third
    bool usable;
  };
  /// Digits: [ceil(d / 16)][digits][kRows][16], the upper first, in [-128, 128).
  using Queries = DigitQueries<Head, std::uint8_t>;

  static std::int64_t query_floats(std::int64_t padded_d) {
    return static_cast<std::int64_t>(sizeof(Head) / sizeof(float)) +
           padded_d * kMostDigits * kRows / static_cast<std::int64_t>(sizeof(float));
  }

  /// q: [count][q_stride], d of them zero-padded to lanes.
  template <int kDigits>
  static void round(const float* q, std::int64_t q_stride, int d, int count, const Queries& queries) {
    queries.head->usable = true;
    for (int r = 0; r < count; ++r) queries.head->usable &= round<kDigits>(q + r * q_stride, d, r, queries);
  }

  /// scores = q k, unscaled, of R rows and the tile's keys in whole lanes.
  template <int kDigits, int R, bool kAhead>
  static void products(const Queries& queries, int d, Tiles& tiles, float* scores) {
    typename Tiles::Ahead ahead(tiles);
    for (int key = 0; key < tiles.count(); key += Lanes::kWidth) {
      Ints sums[kDigits][R];
#pragma GCC unroll 4
      for (int digit = 0; digit < kDigits; ++digit) {
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[digit][r] = Lanes::zero_ints();
      }
      const std::uint8_t* digits = queries.digits;
      int column = 0;
      for (; column + kColumns <= d; column += kColumns, digits += kDigits * kRows * kColumns) {
        if (kAhead && column / Tiles::kLine * Tiles::kLine + Tiles::kLine <= d) {
          ahead.template touch<Lanes::kWidth * kColumns / Tiles::kLine>();
        }
        if constexpr (kAhead) {
          constexpr int kBlocks = static_cast<int>(Tiles::kLine) / kColumns, kRowsOfBlock = Lanes::kWidth / kBlocks;
          fetch<kRowsOfBlock>(tiles.k() + key + kNear + column / kColumns % kBlocks * kRowsOfBlock, column);
        }
        multiply<kDigits, R, true>(tiles.k() + key, column, kColumns, digits, sums);
      }
      if (column < d) multiply<kDigits, R, false>(tiles.k() + key, column, d - column, digits, sums);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        Ints of_row[kDigits];
        of_row[0] = sums[0][r];
        of_row[1] = Lanes::sub(sums[1][r], Lanes::broadcast_int(queries.head->offset[0][r]));
        if constexpr (kDigits == 3)
          of_row[2] = Lanes::sub(sums[2][r], Lanes::broadcast_int(queries.head->offset[1][r]));
        Lanes::store(scores + r * kTileKeys + key,
                     Digits::template total<kDigits>(of_row, Lanes::broadcast(queries.head->unit[r])));
      }
    }
  }

  /// o [R][o_stride] += weights v, of R rows and the tile's keys. False: nothing was added, for weights have no such
  /// form, as one is negative, not finite, or all of a row are tiny.
  template <int kDigits, int R, bool kAhead>
  static bool accumulate(const float* weights, Tiles& tiles, int d, float* o, std::int64_t o_stride) {
    Weights rounded;
    for (int r = 0; r < R; ++r) {
      if (!Digits::template round<kDigits>(weights + r * kTileKeys, r, rounded)) return false;
    }
    typename Tiles::Ahead ahead(tiles);
    int column = 0;
    for (; column + Lanes::kValueColumns <= d; column += Lanes::kValueColumns) {
      accumulate<kDigits, R, true, kAhead, 0>(rounded, tiles, ahead, column, Lanes::kValueColumns, o, o_stride);
      accumulate<kDigits, R, true, kAhead, 1>(rounded, tiles, ahead, column, Lanes::kValueColumns, o, o_stride);
    }
    if (column < d) {
      accumulate<kDigits, R, false, false, 0>(rounded, tiles, ahead, column, d - column, o, o_stride);
      accumulate<kDigits, R, false, false, 1>(rounded, tiles, ahead, column, d - column, o, o_stride);
    }
    return true;
  }

 private:
  static constexpr int kColumns = Lanes::kKeyColumns;
  using Weights = typename Digits::Weights;

  // Rows so far ahead are fetched from L2. Without it, int8 was decoded at 0.9 of the rate on four cores of a Zen 4,
  // and at the same from L2: requests for memory fill the buffers that misses of L1 wait for.
  static constexpr int kNear = 16;

  /// The lines of `count` rows that hold a column; behind the last key of a tile, rows of what is used next stand.
  template <int kCount>
  static TILEWISE_INLINE void fetch(const void* const* rows, int column) {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      __builtin_prefetch(static_cast<const char*>(rows[i]) + column / Tiles::kLine * Tiles::kLine);
    }
  }

  template <int kDigits>
  static bool round(const float* q, int d, int r, const Queries& queries) {
    // With 128 added to each digit, digits are bytes.
    constexpr std::int32_t kMiddle = Digits::template kMiddle<kDigits>;
    Ints upper = Lanes::zero_ints(), third = Lanes::zero_ints();
    std::uint8_t* to = queries.digits + r * kColumns;
    constexpr std::int64_t kStride = kRows * kColumns;
    const bool usable = Digits::template round<kDigits>(q, d, &queries.head->unit[r], [&](int, Ints x) {
      Digits::template store<kDigits>(Lanes::flip_signs(Lanes::add(x, Lanes::broadcast_int(kMiddle))), to, kStride);
      const Ints above = kDigits == 3 ? Lanes::over_256(Lanes::add(x, Lanes::broadcast_int(128))) : x;
      upper = Lanes::add(upper, above);
      if constexpr (kDigits == 3) third = Lanes::add(third, Lanes::sub(x, Lanes::times_256(above)));
      to += kDigits * kStride;
    });
    const auto offset = [](Ints sums) {
      return static_cast<std::int32_t>(128 * static_cast<std::uint32_t>(Lanes::sum_of(sums)));
    };
    queries.head->offset[0][r] = offset(upper);
    queries.head->offset[1][r] = offset(third);
    return usable;
  }

  /// sums += the products of columns [column, column + count) of kWidth keys with as many of R rows.
  template <int kDigits, int R, bool kWhole>
  static TILEWISE_INLINE void multiply(const void* const* rows, int column, int count, const std::uint8_t* digits,
                                       Ints (&sums)[kDigits][R]) {
    Ints keys[4];
    Lanes::template columns_of<kWhole>(rows, column, count, keys);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      keys[j] = Lanes::flip_signs(keys[j]);
#pragma GCC unroll 4
      for (int digit = 0; digit < kDigits; ++digit) {
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const Ints query = Lanes::broadcast_four(digits + (digit * kRows + r) * kColumns + 4 * j);
          sums[digit][r] = Lanes::dot(keys[j], query, sums[digit][r]);
        }
      }
    }
  }

  template <int kDigits, int R, bool kWhole, bool kAhead, int kHalf>
  static TILEWISE_INLINE void accumulate(const Weights& weights, const Tiles& tiles, typename Tiles::Ahead& ahead,
                                         int column, int count, float* o, std::int64_t o_stride) {
    Ints sums[kDigits * R][2];
#pragma GCC unroll 12
    for (int i = 0; i < kDigits * R; ++i) sums[i][0] = sums[i][1] = Lanes::zero_ints();
    for (int key = 0; key < tiles.count(); key += 4) {
      // A quarter is asked for beside the softmax.
      if (kAhead && key % 16 != 12) ahead.template touch<2>();
      if constexpr (kAhead && kHalf == 0) fetch<4>(tiles.v() + key + kNear, column);
      Ints values[2];
      Lanes::template rows_of<kWhole, kHalf>(tiles.v() + key, column, count, values);
#pragma GCC unroll 12
      for (int i = 0; i < kDigits * R; ++i) {
        const Ints weight = Lanes::broadcast_four(&weights.digits[i / R][i % R][key]);
        sums[i][0] = Lanes::dot(weight, values[0], sums[i][0]);
        sums[i][1] = Lanes::dot(weight, values[1], sums[i][1]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      Vec total[2];
#pragma GCC unroll 2
      for (int n = 0; n < 2; ++n) {
        Ints of_row[kDigits];
#pragma GCC unroll 3
        for (int digit = 0; digit < kDigits; ++digit) of_row[digit] = sums[digit * R + r][n];
        total[n] = Digits::template total<kDigits>(of_row, Lanes::broadcast(weights.unit[r]));
      }
      Lanes::template add_to<kHalf>(o + r * o_stride + column, count, total[0], total[1]);
    }
  }
};

}  // namespace tilewise::cpu

// The products of decoding from int8 caches by integer dot products: queries and weights become integers of two or
// three bytes, whose products with codes are exact, in any order. docs/decisions/cache_storage.md says why.
#pragma once

#include <cstdint>

#include "cpu/block.h"
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

/// kDigits: bytes of a query's or a weight's integer. Its first two meet in sums of 32 bits, which cannot overflow; a
/// third has sums of its own.
template <class Lanes, int kTileKeys>
class DecodeCodes<Lanes, kTileKeys, true> {
 public:
  static constexpr bool kAvailable = true;
  using Tiles = DecodeTiles<Lanes, kTileKeys>;
  using Vec = typename Lanes::Vec;
  using Ints = typename Lanes::Ints;
  static constexpr int kRows = 4;  // most query rows of a block
  static constexpr int kMostDigits = 3;

  /// A block of query rows as integers times units, in query_floats(padded d) floats.
  class Queries {
   public:
    explicit Queries(float* memory)
        : head_(reinterpret_cast<Head*>(memory)), digits_(reinterpret_cast<std::uint8_t*>(memory) + sizeof(Head)) {}

    /// False: products are to be floating.
    bool usable() const { return head_->usable; }

   private:
    friend DecodeCodes;
    struct alignas(64) Head {
      float unit[kRows];
      std::int32_t offset[2][kRows];  // what codes moved by 128 add to the sums of the upper digits, and of the third
      bool usable;
    };
    Head* head_;
    std::uint8_t* digits_;  // [ceil(d / 16)][digits][kRows][16], the upper first, in [-128, 128)
  };

  static std::int64_t query_floats(std::int64_t padded_d) {
    return static_cast<std::int64_t>(sizeof(typename Queries::Head) / sizeof(float)) +
           padded_d * kMostDigits * kRows / static_cast<std::int64_t>(sizeof(float));
  }

  /// q: [count][q_stride], d of them zero-padded to lanes.
  template <int kDigits>
  static void round(const float* q, std::int64_t q_stride, int d, int count, const Queries& queries) {
    queries.head_->usable = true;
    for (int r = 0; r < count; ++r) round<kDigits>(q + r * q_stride, d, r, queries);
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
      const std::uint8_t* digits = queries.digits_;
      int column = 0;
      for (; column + kColumns <= d; column += kColumns, digits += kDigits * kRows * kColumns) {
        if (kAhead && column / Tiles::kLine * Tiles::kLine + Tiles::kLine <= d) {
          ahead.template touch<Lanes::kWidth * kColumns / Tiles::kLine>();
        }
        multiply<kDigits, R, true>(tiles.k() + key, column, kColumns, digits, sums);
      }
      if (column < d) multiply<kDigits, R, false>(tiles.k() + key, column, d - column, digits, sums);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Ints upper = Lanes::sub(Lanes::add(Lanes::times_256(sums[0][r]), sums[1][r]),
                                      Lanes::broadcast_int(queries.head_->offset[0][r]));
        Vec sum = Lanes::to_float(upper);
        if constexpr (kDigits == 3) {
          const Ints third = Lanes::sub(sums[2][r], Lanes::broadcast_int(queries.head_->offset[1][r]));
          sum = Lanes::fma(sum, Lanes::broadcast(256), Lanes::to_float(third));
        }
        Lanes::store(scores + r * kTileKeys + key, Lanes::mul(sum, Lanes::broadcast(queries.head_->unit[r])));
      }
    }
  }

  /// o [R][o_stride] += weights v, of R rows and the tile's keys. False: nothing was added, for weights have no such
  /// form, as one is negative, not finite, or all of a row are tiny.
  template <int kDigits, int R, bool kAhead>
  static bool accumulate(const float* weights, Tiles& tiles, int d, float* o, std::int64_t o_stride) {
    Weights rounded;
    for (int r = 0; r < R; ++r) {
      if (!round<kDigits>(weights + r * kTileKeys, r, rounded)) return false;
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
  static constexpr int kLeastExponent = 127 - 64, kMostExponent = 127 + 64;

  /// The weights of a block's rows of a tile as integers times units.
  struct Weights {
    std::uint8_t digits[kMostDigits][kRows][kTileKeys];  // the upper first
    float unit[kRows];
  };

  template <int kDigits>
  static TILEWISE_INLINE bool round(const float* weights, int r, Weights& rounded) {
    Vec largest = Lanes::load(weights);
#pragma GCC unroll 4
    for (int i = Lanes::kWidth; i < kTileKeys; i += Lanes::kWidth) {
      largest = Lanes::max_bits(largest, Lanes::load(weights + i));
    }
    const std::uint32_t bits = Lanes::largest_bits(largest), exponent = bits >> 23;
    if (bits != 0 && (exponent < kLeastExponent || exponent > kMostExponent)) return false;
    // The largest becomes 23 to 24 bits, or 14 to 15, which rounding does not make one more.
    constexpr int kBits = kDigits == 3 ? 23 : 14;
    rounded.unit[r] = bits == 0 ? 0 : power_of_two(static_cast<int>(exponent) - kBits);
    const Vec inverse = Lanes::broadcast(bits == 0 ? 0 : power_of_two(2 * 127 + kBits - static_cast<int>(exponent)));
#pragma GCC unroll 4
    for (int i = 0; i < kTileKeys; i += Lanes::kWidth) {
      store_digits<kDigits>(Lanes::nearest(Lanes::mul(Lanes::load(weights + i), inverse)), &rounded.digits[0][r][i],
                            kRows * kTileKeys);
    }
    return true;
  }

  static TILEWISE_INLINE float power_of_two(int biased_exponent) {
    const std::uint32_t bits = static_cast<std::uint32_t>(biased_exponent) << 23;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }

  /// Bytes of 16 lanes, the upper first, `stride` apart.
  template <int kDigits>
  static TILEWISE_INLINE void store_digits(Ints x, std::uint8_t* to, std::int64_t stride) {
    if constexpr (kDigits == 3) Lanes::template store_byte<2>(to, x);
    Lanes::template store_byte<1>(to + (kDigits - 2) * stride, x);
    Lanes::template store_byte<0>(to + (kDigits - 1) * stride, x);
  }

  template <int kDigits>
  static void round(const float* q, int d, int r, const Queries& queries) {
    Vec largest = Lanes::zero();
    for (int i = 0; i < d; i += Lanes::kWidth) largest = Lanes::max_bits(largest, Lanes::magnitude(Lanes::load(q + i)));
    const std::uint32_t bits = Lanes::largest_bits(largest), exponent = bits >> 23;
    if (bits != 0 && (exponent < kLeastExponent || exponent > kMostExponent)) {
      queries.head_->usable = false;
      return;
    }
    // Digits in [-128, 128) make 7f7f7f or 7f7f, less one for rounding; and a sum over d codes has 31 bits.
    float most = kDigits == 3 ? 0x7f7f7e : 0x7f7e;
    if (d > 512) most *= 512.0f / static_cast<float>(d);
    float unit = 0;
    __builtin_memcpy(&unit, &bits, sizeof unit);
    unit = bits == 0 ? 1 : unit / most;
    queries.head_->unit[r] = unit;
    // With 128 added to each digit, digits are bytes.
    constexpr std::int32_t kMiddle = kDigits == 3 ? 0x808080 : 0x8080;
    Ints upper = Lanes::zero_ints(), third = Lanes::zero_ints();
    std::uint8_t* to = queries.digits_ + r * kColumns;
    constexpr std::int64_t kStride = kRows * kColumns;
    for (int i = 0; i < d; i += Lanes::kWidth, to += kDigits * kStride) {
      const Ints x = Lanes::nearest(Lanes::divide(Lanes::load(q + i), Lanes::broadcast(unit)));
      store_digits<kDigits>(Lanes::flip_signs(Lanes::add(x, Lanes::broadcast_int(kMiddle))), to, kStride);
      const Ints above = kDigits == 3 ? Lanes::over_256(Lanes::add(x, Lanes::broadcast_int(128))) : x;
      upper = Lanes::add(upper, above);
      if constexpr (kDigits == 3) third = Lanes::add(third, Lanes::sub(x, Lanes::times_256(above)));
    }
    const auto offset = [](Ints sums) {
      return static_cast<std::int32_t>(128 * static_cast<std::uint32_t>(Lanes::sum_of(sums)));
    };
    queries.head_->offset[0][r] = offset(upper);
    queries.head_->offset[1][r] = offset(third);
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
      if constexpr (kAhead) ahead.template touch<2>();
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
        total[n] = Lanes::to_float(Lanes::add(Lanes::times_256(sums[r][n]), sums[R + r][n]));
        if constexpr (kDigits == 3) {
          total[n] = Lanes::fma(total[n], Lanes::broadcast(256), Lanes::to_float(sums[2 * R + r][n]));
        }
        total[n] = Lanes::mul(total[n], Lanes::broadcast(weights.unit[r]));
      }
      Lanes::template add_to<kHalf>(o + r * o_stride + column, count, total[0], total[1]);
    }
  }
};

}  // namespace tilewise::cpu

// Queries and weights as integers of two or three bytes, for products with int8 codes, which are exact, in any order.
// docs/decisions/cache_storage.md says why.
#pragma once

#include <cstdint>

#include "cpu/block.h"

namespace tilewise::cpu {

/// A block of query rows as integers times units, in memory of floats: a head that ends with whether they are usable,
/// and the digits.
template <class Head, class Digit>
struct DigitQueries {
  explicit DigitQueries(float* memory)
      : head(reinterpret_cast<Head*>(memory)),
        digits(reinterpret_cast<Digit*>(reinterpret_cast<char*>(memory) + sizeof(Head))) {}

  /// False: products are to be floating.
  bool usable() const { return head->usable; }

  Head* head;
  Digit* digits;
};

/// kDigits: bytes of an integer. Sums of products of its first two meet in 32 bits, which cannot overflow; a third has
/// sums of its own.
template <class Lanes, int kTileKeys>
class DecodeDigits {
 public:
  using Vec = typename Lanes::Vec;
  using Ints = typename Lanes::Ints;
  static constexpr int kRows = 4;  // most query rows of a block
  static constexpr int kMostDigits = 3;

  /// The weights of a block's rows of a tile as integers times units. A fourth digit is not set, only there to be read
  /// with a register of sixteen rows.
  struct alignas(64) Weights {
    std::uint8_t digits[kMostDigits + 1][kRows][kTileKeys];  // the upper first
    float unit[kRows];
  };

  /// Weights of row r. False: they have no such form, as one is negative, not finite, or all are tiny.
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
      store<kDigits>(Lanes::nearest(Lanes::mul(Lanes::load(weights + i), inverse)), &rounded.digits[0][r][i],
                     kRows * kTileKeys);
    }
    return true;
  }

  /// A query's d floats, zero-padded to lanes, as integers times *unit: calls use(i, x) for each lanes from i on.
  /// Digits of x are in [-128, 128): bytes of x + kMiddle<kDigits>, each less 128. False: it has no such form.
  template <int kDigits, class Use>
  static bool round(const float* q, int d, float* unit, const Use& use) {
    Vec largest = Lanes::zero();
    for (int i = 0; i < d; i += Lanes::kWidth) largest = Lanes::max_bits(largest, Lanes::magnitude(Lanes::load(q + i)));
    const std::uint32_t bits = Lanes::largest_bits(largest), exponent = bits >> 23;
    if (bits != 0 && (exponent < kLeastExponent || exponent > kMostExponent)) return false;
    // Digits in [-128, 128) make 7f7f7f or 7f7f, less one for rounding; and a sum over d codes has 31 bits.
    float most = kDigits == 3 ? 0x7f7f7e : 0x7f7e;
    if (d > 512) most *= 512.0f / static_cast<float>(d);
    float value = 0;
    __builtin_memcpy(&value, &bits, sizeof value);
    *unit = bits == 0 ? 1 : value / most;
    for (int i = 0; i < d; i += Lanes::kWidth) {
      use(i, Lanes::nearest(Lanes::divide(Lanes::load(q + i), Lanes::broadcast(*unit))));
    }
    return true;
  }

  template <int kDigits>
  static constexpr std::int32_t kMiddle = kDigits == 3 ? 0x808080 : 0x8080;

  /// Bytes of 16 lanes, the upper first, `stride` apart.
  template <int kDigits>
  static TILEWISE_INLINE void store(Ints x, std::uint8_t* to, std::int64_t stride) {
    if constexpr (kDigits == 3) Lanes::template store_byte<2>(to, x);
    Lanes::template store_byte<1>(to + (kDigits - 2) * stride, x);
    Lanes::template store_byte<0>(to + (kDigits - 1) * stride, x);
  }

  /// What sums of each digit's products, the upper first, come to.
  template <int kDigits>
  static TILEWISE_INLINE Vec total(const Ints (&sums)[kDigits], Vec unit) {
    Vec sum = Lanes::to_float(Lanes::add(Lanes::times_256(sums[0]), sums[1]));
    if constexpr (kDigits == 3) sum = Lanes::fma(sum, Lanes::broadcast(256), Lanes::to_float(sums[2]));
    return Lanes::mul(sum, unit);
  }

 private:
  static constexpr int kLeastExponent = 127 - 64, kMostExponent = 127 + 64;

  static TILEWISE_INLINE float power_of_two(int biased_exponent) {
    const std::uint32_t bits = static_cast<std::uint32_t>(biased_exponent) << 23;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }
};

}  // namespace tilewise::cpu

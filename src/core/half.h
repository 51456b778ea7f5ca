// bfloat16 and float16 as storage: conversions from and to float, correctly rounded, in portable arithmetic.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace tilewise {
namespace half_detail {

/// The 16-bit pattern nearest to `value` in the IEEE-like format of 1 sign bit, 15 - kMantissaBits exponent bits and
/// kMantissaBits mantissa bits: ties go to even, values past the largest finite one (plus half a unit) to infinity,
/// small values to subnormals. A NaN stays a (quiet) NaN with its sign and the top of its payload.
/// Without branches, so that compilers make vectors of rows; with signed integers, which SSE2 compares.
template <int kMantissaBits, std::floating_point Real>
constexpr std::uint16_t encode(Real value) {
  using Int = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;
  using Bits = std::make_unsigned_t<Int>;
  constexpr int kRealMantissaBits = std::numeric_limits<Real>::digits - 1;
  constexpr int kRealBias = std::numeric_limits<Real>::max_exponent - 1;
  constexpr int kBias = (1 << (14 - kMantissaBits)) - 1;
  constexpr int kDropped = kRealMantissaBits - kMantissaBits;
  constexpr auto power_of_two = [](int exponent) { return Int{exponent + kRealBias} << kRealMantissaBits; };
  constexpr Int kRealInfinity = power_of_two(kRealBias + 1);
  constexpr Int kInfinity = (1 << 15) - (1 << kMantissaBits), kQuiet = 1 << (kMantissaBits - 1);

  const Bits bits = std::bit_cast<Bits>(value);
  const auto magnitude = static_cast<Int>(bits & ~(Bits{1} << (8 * sizeof(Real) - 1)));
  // The exponent's bias falls, and a carry out of the mantissa moves into the exponent by itself.
  const Int odd = magnitude >> kDropped & 1, below_half = (Int{1} << (kDropped - 1)) - 1;
  Int rounded = (magnitude - (Int{kRealBias - kBias} << kRealMantissaBits) + below_half + odd) >> kDropped;
  // A narrower range ends earlier. Below its smallest normal number the unit stays the same: it is the last bit of a
  // power of two among the reals, so an addition to that rounds.
  if constexpr (kBias < kRealBias) {
    constexpr Int kUnits = power_of_two(1 - kBias - kMantissaBits + kRealMantissaBits);
    const Real sum = std::bit_cast<Real>(magnitude) + std::bit_cast<Real>(kUnits);
    rounded = magnitude < power_of_two(1 - kBias) ? std::bit_cast<Int>(sum) - kUnits : rounded;
    rounded = magnitude >= power_of_two(kBias + 1) ? kInfinity : rounded;
  }
  rounded = magnitude > kRealInfinity ? kInfinity | kQuiet | (magnitude >> kDropped & (kQuiet - 1)) : rounded;
  return static_cast<std::uint16_t>((bits >> (8 * sizeof(Real) - 16) & 0x8000) | static_cast<Bits>(rounded));
}

}  // namespace half_detail

/// A stored bfloat16: float32's exponent range with 8 significant bits.
struct Bfloat16 {
  std::uint16_t bits = 0;

  Bfloat16() = default;
  /// Nearest, ties to even; from a float or (rounding once) a double.
  constexpr explicit Bfloat16(std::floating_point auto value) : bits(half_detail::encode<7>(value)) {}
  static constexpr Bfloat16 from_bits(std::uint16_t bits) {
    Bfloat16 result;
    result.bits = bits;
    return result;
  }

  /// Exact.
  constexpr explicit operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
  constexpr explicit operator double() const { return static_cast<float>(*this); }
};

/// A stored float16 (IEEE binary16): 11 significant bits, largest finite value 65504.
struct Float16 {
  std::uint16_t bits = 0;

  Float16() = default;
  /// Nearest, ties to even; from a float or (rounding once) a double.
  constexpr explicit Float16(std::floating_point auto value) : bits(half_detail::encode<10>(value)) {}
  static constexpr Float16 from_bits(std::uint16_t bits) {
    Float16 result;
    result.bits = bits;
    return result;
  }

  /// Exact.
  constexpr explicit operator float() const {
    const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1Fu;
    const std::uint32_t mantissa = bits & 0x3FFu;
    if (exponent == 0) {  // zero or subnormal: a multiple of 2^-24, which float holds as a normal number
      const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
      return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
    }
    const std::uint32_t wide_exponent = exponent == 0x1F ? 0xFF : exponent + (127 - 15);
    return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
  }
  constexpr explicit operator double() const { return static_cast<float>(*this); }
};

static_assert(sizeof(Bfloat16) == 2 && sizeof(Float16) == 2);

}  // namespace tilewise

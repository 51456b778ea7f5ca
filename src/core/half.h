// bfloat16 and float16 as storage: conversions from and to float, correctly rounded, in portable integer arithmetic.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace tilewise {
namespace half_detail {

/// The 16-bit pattern nearest to `value` in the IEEE-like format of 1 sign bit, 15 - kMantissaBits exponent bits and
/// kMantissaBits mantissa bits: ties go to even, values past the largest finite one (plus half a unit) to infinity,
/// small values to subnormals. A NaN stays a (quiet) NaN with its sign and the top of its payload.
/// The source is a double so that float64 rounds once; widening a float to double loses nothing.
template <int kMantissaBits>
constexpr std::uint16_t encode(double value) {
  constexpr int kDoubleMantissaBits = 52;
  constexpr std::uint64_t kDoubleInfinity = 0x7FF0'0000'0000'0000;
  constexpr std::uint64_t kImplicitOne = std::uint64_t{1} << kDoubleMantissaBits;
  constexpr int kDropped = kDoubleMantissaBits - kMantissaBits;
  constexpr std::uint64_t kInfinity = (std::uint64_t{1} << 15) - (std::uint64_t{1} << kMantissaBits);
  constexpr int kMaxExponent = (1 << (14 - kMantissaBits)) - 1;  // also the bias
  constexpr int kMinExponent = 1 - kMaxExponent;                 // of a normal number

  const std::uint64_t bits = std::bit_cast<std::uint64_t>(value);
  const std::uint64_t sign = (bits >> 63) << 15;
  const std::uint64_t magnitude = bits & ~(std::uint64_t{1} << 63);
  if (magnitude > kDoubleInfinity) {
    const std::uint64_t payload = (magnitude & (kImplicitOne - 1)) >> kDropped;
    const std::uint64_t quiet = std::uint64_t{1} << (kMantissaBits - 1);
    return static_cast<std::uint16_t>(sign | kInfinity | quiet | payload);
  }

  const int exponent = static_cast<int>(magnitude >> kDoubleMantissaBits) - 1023;
  if (exponent > kMaxExponent) return static_cast<std::uint16_t>(sign | kInfinity);
  // Below the smallest normal number each lower exponent costs one more bit. At 54 dropped bits less than half a unit
  // is left: zero. That includes all subnormal doubles, so the implicit one may be assumed.
  const int dropped = kDropped + std::max(kMinExponent - exponent, 0);
  if (dropped > kDoubleMantissaBits + 1) return static_cast<std::uint16_t>(sign);
  const std::uint64_t significand = (magnitude & (kImplicitOne - 1)) | kImplicitOne;
  const std::uint64_t odd = (significand >> dropped) & 1;
  const std::uint64_t rounded = (significand + (std::uint64_t{1} << (dropped - 1)) - 1 + odd) >> dropped;
  // `rounded` still holds the implicit one, worth one step of the exponent field; a carry out of the mantissa moves
  // into the exponent by itself, up to infinity.
  const auto exponent_steps = static_cast<std::uint64_t>(std::max(exponent - kMinExponent, 0));
  return static_cast<std::uint16_t>(sign | ((exponent_steps << kMantissaBits) + rounded));
}

}  // namespace half_detail

/// A stored bfloat16: float32's exponent range with 8 significant bits.
struct Bfloat16 {
  std::uint16_t bits = 0;

  Bfloat16() = default;
  /// Nearest, ties to even; from a float or (rounding once) a double.
  constexpr explicit Bfloat16(double value) : bits(half_detail::encode<7>(value)) {}
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
  constexpr explicit Float16(double value) : bits(half_detail::encode<10>(value)) {}
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

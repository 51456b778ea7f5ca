// float8_e4m3 as storage: conversions from and to float, correctly rounded, in portable arithmetic.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace tilewise {

/// 1 sign bit, 4 exponent bits with a bias of 7, 3 mantissa bits. There are no infinities; the code of all ones but the
/// sign is NaN, and the largest number is 448.
struct Float8E4m3 {
  std::uint8_t bits = 0;

  static constexpr float kLargest = 448;

  Float8E4m3() = default;
  /// Nearest, ties to even; what lies beyond the largest number, and infinities, become that number with their sign.
  constexpr explicit Float8E4m3(double value) : bits(encode(value)) {}
  static constexpr Float8E4m3 from_bits(std::uint8_t bits) {
    Float8E4m3 result;
    result.bits = bits;
    return result;
  }

  /// Exact.
  constexpr explicit operator double() const {
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    if ((bits & 0x7f) == 0x7f) return std::numeric_limits<double>::quiet_NaN();
    const double magnitude = exponent == 0 ? mantissa * 0x1p-9 : (8 + mantissa) * power_of_two(exponent - 10);
    return (bits & 0x80) != 0 ? -magnitude : magnitude;
  }
  constexpr explicit operator float() const { return static_cast<float>(static_cast<double>(*this)); }

 private:
  static constexpr double power_of_two(int exponent) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
  }
  static constexpr std::uint8_t encode(double value) {
    const auto real = std::bit_cast<std::uint64_t>(value);
    const auto sign = static_cast<unsigned>(real >> 63) << 7;
    const double magnitude = std::bit_cast<double>(real & ~(std::uint64_t{1} << 63));
    if (magnitude != magnitude) return static_cast<std::uint8_t>(sign | 0x7f);
    if (magnitude >= static_cast<double>(kLargest)) return static_cast<std::uint8_t>(sign | 0x7e);
    // A unit of the last bit: below the smallest normal number, 2^-6, it stays the same. Added to 2^52 of them, a
    // number is rounded to whole units.
    const int exponent = magnitude < 0x1p-6 ? -6 : static_cast<int>(real >> 52 & 0x7ff) - 1023;
    const double whole = 0x1p52 * power_of_two(exponent - 3);
    const auto units = static_cast<int>((magnitude + whole - whole) * power_of_two(3 - exponent));
    // A normal number's units are 8 and its mantissa; a carry moves into the exponent by itself.
    return static_cast<std::uint8_t>(sign | static_cast<unsigned>((exponent + 6) * 8 + units));
  }
};

static_assert(sizeof(Float8E4m3) == 1);

}  // namespace tilewise

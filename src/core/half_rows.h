// Rows of floats as bfloat16 and float16: the bits of the conversions in core/half.h, without branches, so that
// compilers make vectors of them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tilewise {

/// The bits of Bfloat16(value).
inline std::uint16_t bfloat16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
  const bool is_nan = static_cast<std::int32_t>(bits & 0x7FFF'FFFF) > 0x7F80'0000;
  return static_cast<std::uint16_t>(is_nan ? quiet : rounded);
}

/// The bits of Float16(value).
inline std::uint16_t float16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto magnitude = static_cast<std::int32_t>(bits & 0x7FFF'FFFF);
  // From 2^-14 on the exponent's bias falls from 127 to 15, and a carry out of the mantissa moves into the exponent by
  // itself. Below, the unit is 2^-24, which is that of float32 from 1/2 on: an addition rounds to it.
  const std::int32_t normal = (magnitude - (112 << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
  const std::int32_t small = std::bit_cast<std::int32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F00'0000;
  const std::int32_t nan = 0x7E00 | (magnitude >> 13 & 0x3FF);
  std::int32_t rounded = magnitude < 0x3880'0000 ? small : normal;  // 2^-14
  rounded = magnitude >= 0x4780'0000 ? 0x7C00 : rounded;            // 2^16
  rounded = magnitude > 0x7F80'0000 ? nan : rounded;
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000) | static_cast<std::uint32_t>(rounded));
}

/// out [2 * count] bytes of halves, aligned or not.
inline void store_bfloat16(const float* values, std::int64_t count, std::byte* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint16_t bits = bfloat16_bits(values[i]);
    std::memcpy(out + 2 * i, &bits, sizeof(bits));
  }
}

inline void store_float16(const float* values, std::int64_t count, std::byte* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint16_t bits = float16_bits(values[i]);
    std::memcpy(out + 2 * i, &bits, sizeof(bits));
  }
}

}  // namespace tilewise

// Both 16-bit formats against their definition by value: a table of all finite values from ldexp, searched for the
// nearest. No bit of the implementation's arithmetic is shared.
#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace tilewise {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Format {
  int mantissa_bits;
  int bias;
};
constexpr Format kBfloat16Format{7, 127}, kFloat16Format{10, 15};

bool is_nan_pattern(Format format, std::uint16_t bits) {
  return (bits & 0x7FFF) > 0x8000 - (1 << format.mantissa_bits);
}

/// The meaning of a pattern that is not a NaN, as IEEE 754 states it.
double value_of(Format format, std::uint16_t bits) {
  const int exponent = (bits & 0x7FFF) >> format.mantissa_bits;
  const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
  const double fraction = std::ldexp(mantissa, -format.mantissa_bits);
  double magnitude = std::ldexp(1 + fraction, exponent - format.bias);
  if (exponent == 0) magnitude = std::ldexp(fraction, 1 - format.bias);
  if (exponent == 2 * format.bias + 1) magnitude = kInfinity;
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// The pattern nearest to value (not NaN): magnitudes rise with patterns, so a search finds the two neighbours.
/// Infinity takes part as the value that the next exponent would have, which is how IEEE 754 defines overflow.
std::uint16_t nearest(Format format, double value) {
  const auto infinity = static_cast<std::uint16_t>(0x8000 - (1 << format.mantissa_bits));
  const double past_largest = std::ldexp(1.0, format.bias + 1);
  const auto magnitude_of = [&](int bits) {
    return bits == infinity ? past_largest : value_of(format, static_cast<std::uint16_t>(bits));
  };
  const double magnitude = std::fabs(value);
  int low = 0, high = infinity;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (magnitude_of(middle) <= magnitude ? low : high) = middle;
  }
  const double to_low = magnitude - magnitude_of(low), to_high = magnitude_of(high) - magnitude;
  const bool up = to_high < to_low || (to_high == to_low && low % 2 == 1);
  return static_cast<std::uint16_t>((up ? high : low) | (std::signbit(value) ? 0x8000 : 0));
}

template <class Half>
class HalfTest : public testing::Test {
 public:
  static constexpr Format format = std::is_same_v<Half, Bfloat16> ? kBfloat16Format : kFloat16Format;
};
using Halves = testing::Types<Bfloat16, Float16>;
TYPED_TEST_SUITE(HalfTest, Halves);

TYPED_TEST(HalfTest, EveryPatternHasItsValueAndReadsBack) {
  for (int pattern = 0; pattern < 0x10000; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const auto half = TypeParam::from_bits(bits);
    const auto as_float = static_cast<float>(half);
    if (is_nan_pattern(this->format, bits)) {
      ASSERT_TRUE(std::isnan(as_float)) << std::hex << pattern;
      const TypeParam back(as_float);
      ASSERT_TRUE(is_nan_pattern(this->format, back.bits)) << std::hex << pattern;
      ASSERT_EQ(back.bits & 0x8000, bits & 0x8000) << std::hex << pattern;
      continue;
    }
    ASSERT_EQ(static_cast<double>(as_float), value_of(this->format, bits)) << std::hex << pattern;
    ASSERT_EQ(std::signbit(as_float), (bits & 0x8000) != 0) << std::hex << pattern;
    ASSERT_EQ(static_cast<double>(half), static_cast<double>(as_float));
    ASSERT_EQ(TypeParam(as_float).bits, bits) << std::hex << pattern;
  }
}

TYPED_TEST(HalfTest, MidpointsGoToEvenAndTheirNeighboursToTheNearer) {
  const int infinity = 0x8000 - (1 << this->format.mantissa_bits);
  for (int pattern = 0; pattern < infinity; ++pattern) {
    const double low = value_of(this->format, static_cast<std::uint16_t>(pattern));
    const double high = pattern + 1 == infinity ? std::ldexp(1.0, this->format.bias + 1)
                                                : value_of(this->format, static_cast<std::uint16_t>(pattern + 1));
    const double middle = (low + high) / 2;  // exact: one more bit than the format
    for (double sign : {1.0, -1.0}) {
      const int sign_bit = sign < 0 ? 0x8000 : 0;
      ASSERT_EQ(TypeParam(sign * middle).bits, (pattern + pattern % 2) | sign_bit) << std::hex << pattern;
      ASSERT_EQ(TypeParam(sign * std::nextafter(middle, 0)).bits, pattern | sign_bit) << std::hex << pattern;
      ASSERT_EQ(TypeParam(sign * std::nextafter(middle, kInfinity)).bits, (pattern + 1) | sign_bit)
          << std::hex << pattern;
    }
  }
}

TYPED_TEST(HalfTest, RandomBitPatternsRoundToNearest) {
  constexpr std::uint64_t kSeed = 20240607;
  std::mt19937_64 random(kSeed);
  for (int i = 0; i < 1'000'000; ++i) {
    const auto as_float = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    const auto as_double = std::ldexp(static_cast<double>(random()) - 0x1p63, static_cast<int>(random() % 320) - 220);
    if (!std::isnan(as_float)) {
      ASSERT_EQ(TypeParam(as_float).bits, nearest(this->format, as_float)) << as_float << ", seed " << kSeed;
    }
    ASSERT_EQ(TypeParam(as_double).bits, nearest(this->format, as_double)) << as_double << ", seed " << kSeed;
  }
}

// A step that is coprime to 2^32 comes past every exponent, NaN among them.
TYPED_TEST(HalfTest, FloatsAndDoublesOfTheSameValueHaveTheSameBits) {
  std::uint32_t bits = 0;
  for (int round = 0; round < 2'200'000; ++round, bits += 2029) {
    const auto value = std::bit_cast<float>(bits);
    ASSERT_EQ(TypeParam(value).bits, TypeParam(static_cast<double>(value)).bits) << std::hex << bits;
  }
}

TYPED_TEST(HalfTest, EndsOfTheDoubleRange) {
  const auto infinity = static_cast<std::uint16_t>(0x8000 - (1 << this->format.mantissa_bits));
  EXPECT_EQ(TypeParam(0.0).bits, 0);
  EXPECT_EQ(TypeParam(-0.0).bits, 0x8000);
  EXPECT_EQ(TypeParam(kInfinity).bits, infinity);
  EXPECT_EQ(TypeParam(-kInfinity).bits, infinity | 0x8000);
  EXPECT_EQ(TypeParam(std::numeric_limits<double>::max()).bits, infinity);
  EXPECT_EQ(TypeParam(std::numeric_limits<double>::denorm_min()).bits, 0);
  EXPECT_EQ(TypeParam(-std::numeric_limits<double>::min()).bits, 0x8000);
  EXPECT_TRUE(is_nan_pattern(this->format, TypeParam(std::numeric_limits<double>::quiet_NaN()).bits));
  EXPECT_TRUE(is_nan_pattern(this->format, TypeParam(-std::numeric_limits<double>::quiet_NaN()).bits));
}

TEST(Half, ConversionsAreConstantExpressions) {
  static_assert(Bfloat16(1.0f).bits == 0x3F80);
  static_assert(Float16(1.0f).bits == 0x3C00);
  static_assert(static_cast<float>(Float16(65504.0)) == 65504.0f);
  static_assert(static_cast<float>(Bfloat16::from_bits(0x4049)) == 3.140625f);
}

TEST(Half, DoubleRoundsOnce) {
  // Through float this would round up to the midpoint 1 + 2^-8 first, and from there to even, 1: the wrong way.
  const double just_above = 1 + 0x1p-8 + 0x1p-40;
  EXPECT_EQ(static_cast<double>(Bfloat16(just_above)), 1 + 0x1p-7);
}

}  // namespace
}  // namespace tilewise

// float8_e4m3 against its definition by value: a table of all codes from ldexp, searched for the nearest.
#include "core/float8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "core/element.h"
#include "core/half.h"
#include "tests/refusal.h"
#include "tilewise/arguments.h"
#include "tilewise/float8.h"

namespace tilewise {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

/// The meaning of a code, as Micikevicius et al. (2022), table 1, states it.
double value_of(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) return kNaN;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa / 8.0, -6) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

/// The nearest code by trying all of them; of two, the one with an even last bit.
int nearest(double value) {
  int best = 0;
  for (int code = 1; code < 0x7f; ++code) {
    const double better = std::abs(value_of(best) - std::abs(value)) - std::abs(value_of(code) - std::abs(value));
    if (better > 0 || (better == 0 && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(value) ? 0x80 : 0);
}

TEST(Float8, EveryCodeHasItsValueAndComesBack) {
  for (int code = 0; code < 256; ++code) {
    const Float8E4m3 stored = Float8E4m3::from_bits(static_cast<std::uint8_t>(code));
    const auto value = static_cast<double>(stored);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value) && std::isnan(static_cast<float>(stored)));
      continue;
    }
    EXPECT_EQ(value, value_of(code));
    EXPECT_EQ(static_cast<float>(stored), static_cast<float>(value));
    EXPECT_EQ(std::signbit(value), code >= 0x80);
    EXPECT_EQ(Float8E4m3(value).bits, code);
  }
}

TEST(Float8, HalvesBetweenCodesGoToEvenAndTheirNeighboursToTheNearest) {
  for (int code = 0; code < 0x7e; ++code) {
    const double half = (value_of(code) + value_of(code + 1)) / 2;
    const double below = std::nextafter(half, 0), above = std::nextafter(half, kInfinity);
    for (const double sign : {1.0, -1.0}) {
      const int bit = sign < 0 ? 0x80 : 0;
      EXPECT_EQ(Float8E4m3(sign * half).bits, bit | (code % 2 == 0 ? code : code + 1)) << half;
      EXPECT_EQ(Float8E4m3(sign * below).bits, bit | code) << below;
      EXPECT_EQ(Float8E4m3(sign * above).bits, bit | (code + 1)) << above;
    }
  }
}

TEST(Float8, SaturatesAndKeepsNaN) {
  for (const double value : {448.0, 463.9, 464.0, 480.0, 1e30, kInfinity}) {
    EXPECT_EQ(Float8E4m3(value).bits, 0x7e) << value;
    EXPECT_EQ(Float8E4m3(-value).bits, 0xfe) << value;
  }
  EXPECT_EQ(Float8E4m3(kNaN).bits & 0x7f, 0x7f);
  EXPECT_EQ(Float8E4m3(1e-30).bits, 0);
  EXPECT_EQ(Float8E4m3(-1e-300).bits, 0x80);
}

TEST(Float8, AnyNumberBecomesTheNearestCode) {
  std::mt19937_64 random(11);
  std::uniform_real_distribution<double> exponent(-12, 10);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::exp2(exponent(random)) * (random() % 2 == 0 ? 1 : -1);
    EXPECT_EQ(Float8E4m3(value).bits, nearest(value)) << value;
  }
}

TEST(Float8, ElementsReadAndAreStored) {
  std::uint8_t element = 0;
  store_real(&element, DType::float8_e4m3, -0.34);
  EXPECT_EQ(element, nearest(-0.34));
  EXPECT_EQ(load_real(&element, DType::float8_e4m3), value_of(element));
  EXPECT_FALSE(is_floating(DType::float8_e4m3) || is_integer(DType::float8_e4m3));
  EXPECT_TRUE(is_scaled(DType::float8_e4m3) && is_scaled(DType::int8) && !is_scaled(DType::bfloat16));
}

/// Random values [b, h, s, d] of very different magnitudes in each head and block.
struct Random {
  std::int64_t b = 2, h = 3, s = 300, d = 5;
  std::vector<float> values;

  Random() {
    std::mt19937_64 random(5);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < b * h * s * d; ++i) {
      const std::int64_t row = i / d, head = row / s % h;
      values.push_back(normal(random) * std::exp2(static_cast<float>(3 * head - row % s / kScaleRows)));
    }
  }
};

TEST(Float8, ScalesOfHeadsAndBlocksAreTheLargestMagnitudesOver448) {
  const Random random;
  // Not by a structured binding, which Clang 14 lets no lambda capture.
  const std::int64_t b = random.b, h = random.h, s = random.s, d = random.d;
  const std::vector<float>& values = random.values;
  const std::int64_t blocks = (s + kScaleRows - 1) / kScaleRows;
  for (const bool of_heads : {true, false}) {
    std::vector<std::uint8_t> codes(values.size());
    std::vector<float> scales(static_cast<std::size_t>(of_heads ? h : b * h * blocks), -1);
    const Tensor to_scales =
        of_heads ? Tensor(scales.data(), DType::float32, {h}) : Tensor(scales.data(), DType::float32, {b, h, blocks});
    quantize_float8(ConstTensor(values.data(), DType::float32, {b, h, s, d}),
                    Tensor(codes.data(), DType::float8_e4m3, {b, h, s, d}), to_scales);
    const auto scale_at = [&](std::size_t i) {
      const auto row = static_cast<std::int64_t>(i) / d, head = row / s;  // of b * h
      return of_heads ? head % h : head * blocks + row % s / kScaleRows;
    };
    std::vector<float> largest(scales.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      float& most = largest[static_cast<std::size_t>(scale_at(i))];
      most = std::max(most, std::abs(values[i]));
    }
    for (std::size_t i = 0; i < scales.size(); ++i) EXPECT_FLOAT_EQ(scales[i], largest[i] / 448);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float scale = scales[static_cast<std::size_t>(scale_at(i))];
      ASSERT_EQ(codes[i], nearest(static_cast<double>(values[i]) / scale)) << i;
    }
  }
}

TEST(Float8, NothingButZerosHasAScaleOfOne) {
  const std::vector<float> zeros(8);
  std::vector<std::uint8_t> codes(8, 0xff);
  float scale = 0;
  quantize_float8(ConstTensor(zeros.data(), DType::float32, {1, 4, 2}),
                  Tensor(codes.data(), DType::float8_e4m3, {1, 4, 2}), Tensor(&scale, DType::float32, {1}));
  EXPECT_EQ(scale, 1);
  EXPECT_EQ(codes, std::vector<std::uint8_t>(8, 0));
}

TEST(Float8, QuantisingRefusesWhatDoesNotFitTogether) {
  std::vector<float> values(2 * 3 * 4, 1);
  std::vector<std::uint8_t> codes(values.size(), 0xab);
  std::vector<float> scales(6, -1);
  const ConstTensor from(values.data(), DType::float32, {2, 3, 4});
  const Tensor to(codes.data(), DType::float8_e4m3, {2, 3, 4}), of_heads(scales.data(), DType::float32, {2});
  const auto refuse = [&](const char* message, const ConstTensor& a, const Tensor& b, const Tensor& c) {
    expect_refused([&] { quantize_float8(a, b, c); }, {message});
  };
  refuse("values has rank 1", ConstTensor(values.data(), DType::float32, {24}), to, of_heads);
  refuse("codes has extents [2, 3, 2]", from, Tensor(codes.data(), DType::float8_e4m3, {2, 3, 2}), of_heads);
  refuse("codes has dtype uint8", from, Tensor(codes.data(), DType::uint8, {2, 3, 4}), of_heads);
  refuse("scales has extents [3]", from, to, Tensor(scales.data(), DType::float32, {3}));
  refuse("scales has rank 3", from, to, Tensor(scales.data(), DType::float32, {1, 2, 1}));
  refuse("scales has dtype float64", from, to, Tensor(scales.data(), DType::float64, {2}));
  values[17] = std::numeric_limits<float>::infinity();
  refuse("values[0, 1, 1, 1] is inf", from, to, of_heads);
  EXPECT_EQ(codes, std::vector<std::uint8_t>(codes.size(), 0xab));
  EXPECT_EQ(scales, std::vector<float>(6, -1));
}

}  // namespace
}  // namespace tilewise

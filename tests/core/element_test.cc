#include "core/element.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "tilewise/error.h"

namespace tilewise {
namespace {

TEST(Element, RealsRoundToTheirDtype) {
  const double third = 1.0 / 3;
  const auto stored = [&](DType dtype) {
    std::array<char, 8> element{};
    store_real(element.data(), dtype, third);
    return load_real(element.data(), dtype);
  };
  EXPECT_EQ(stored(DType::float64), third);
  EXPECT_EQ(stored(DType::float32), static_cast<double>(1.0f / 3));
  // 1/3 is 1.010101..b * 2^-2: what follows 11 bits starts with 0 (down), what follows 8 bits with 1 (up).
  EXPECT_EQ(stored(DType::float16), 0x1.554p-2);
  EXPECT_EQ(stored(DType::bfloat16), 0x1.56p-2);
}

TEST(Element, IntegersReadInFull) {
  const std::int64_t smallest64 = std::numeric_limits<std::int64_t>::min();
  const std::int32_t smallest32 = std::numeric_limits<std::int32_t>::min();
  const std::int8_t smallest8 = -128;
  const std::uint8_t largest8 = 255;
  EXPECT_EQ(load_int(&smallest64, DType::int64), smallest64);
  EXPECT_EQ(load_int(&smallest32, DType::int32), smallest32);
  EXPECT_EQ(load_int(&smallest8, DType::int8), -128);
  EXPECT_EQ(load_int(&largest8, DType::uint8), 255);
}

TEST(Element, IntegersAreStoredWhereTheyFit) {
  const auto stored = [](DType dtype, std::int64_t value) {
    std::array<char, 8> element{};
    store_int(element.data(), dtype, value);
    return load_int(element.data(), dtype);
  };
  EXPECT_EQ(stored(DType::int64, std::numeric_limits<std::int64_t>::min()), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(stored(DType::int32, -0x80000000LL), -0x80000000LL);
  EXPECT_EQ(stored(DType::int8, -128), -128);
  EXPECT_EQ(stored(DType::uint8, 255), 255);
  EXPECT_EQ(stored(DType::boolean, 1), 1);
  EXPECT_THROW(stored(DType::int32, 0x80000000LL), Error);
  EXPECT_THROW(stored(DType::int8, 128), Error);
  EXPECT_THROW(stored(DType::uint8, -1), Error);
  EXPECT_THROW(stored(DType::uint8, 256), Error);
  EXPECT_THROW(stored(DType::boolean, 2), Error);
  EXPECT_THROW(stored(DType::float32, 1), Error);
}

TEST(Element, AnyNonzeroByteIsTrue) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto stored = static_cast<std::uint8_t>(byte);
    EXPECT_EQ(load_int(&stored, DType::boolean), byte != 0);
  }
}

TEST(Element, UnalignedElementsRead) {
  std::array<char, 9> bytes{};
  store_real(bytes.data() + 1, DType::float64, -2.5);
  EXPECT_EQ(load_real(bytes.data() + 1, DType::float64), -2.5);
}

TEST(Element, WrongKindIsRefused) {
  double element = 0;
  EXPECT_THROW(load_real(&element, DType::int32), Error);
  EXPECT_THROW(store_real(&element, DType::boolean, 1), Error);
  EXPECT_THROW(load_int(&element, DType::bfloat16), Error);
  EXPECT_TRUE(is_floating(DType::bfloat16) && !is_integer(DType::bfloat16));
  EXPECT_TRUE(is_integer(DType::boolean) && !is_floating(DType::boolean));
}

TEST(Element, AddressFollowsStrides) {
  std::array<float, 6> data{0, 1, 2, 3, 4, 5};
  const ConstTensor rows(data.data(), DType::float32, {2, 3});
  EXPECT_EQ(load_real(element_at(rows, 1, 2), DType::float32), 5);
  const std::array<std::int64_t, 2> extents{3, 2}, strides{-1, 3};  // columns reversed, transposed
  const Tensor turned(data.data() + 2, DType::float32, extents, strides);
  EXPECT_EQ(load_real(element_at(turned, 0, 1), DType::float32), 5);
  EXPECT_EQ(load_real(element_at(turned, 2, 0), DType::float32), 0);
}

}  // namespace
}  // namespace tilewise

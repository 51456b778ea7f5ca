#include "tilewise/tensor.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "tests/refusal.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

constexpr std::array kAll = {DType::float64, DType::float32, DType::float16, DType::bfloat16, DType::int64,
                             DType::int32,   DType::int8,    DType::uint8,   DType::boolean};

TEST(DType, SizesAreThoseOfTheStoredTypes) {
  EXPECT_EQ(size_of(DType::float64), 8);
  EXPECT_EQ(size_of(DType::float32), 4);
  EXPECT_EQ(size_of(DType::float16), 2);
  EXPECT_EQ(size_of(DType::bfloat16), 2);
  EXPECT_EQ(size_of(DType::int64), 8);
  EXPECT_EQ(size_of(DType::int32), 4);
  EXPECT_EQ(size_of(DType::int8), 1);
  EXPECT_EQ(size_of(DType::uint8), 1);
  EXPECT_EQ(size_of(DType::boolean), 1);
}

TEST(DType, NamesReadBack) {
  for (DType dtype : kAll) EXPECT_EQ(dtype_from_string(to_string(dtype)), dtype);
  EXPECT_STREQ(to_string(DType::bfloat16), "bfloat16");
  EXPECT_STREQ(to_string(DType::boolean), "bool");
}

TEST(DType, UnknownNameListsAllNames) {
  const std::string message = refusal([] { dtype_from_string("fp8"); }, ErrorCode::parse);
  EXPECT_NE(message.find("'fp8'"), std::string::npos);
  for (DType dtype : kAll) EXPECT_NE(message.find(to_string(dtype)), std::string::npos) << message;
}

TEST(DType, ValueOutsideTheEnumerationIsRefused) {
  EXPECT_NE(refusal([] { size_of(static_cast<DType>(200)); }), "");
}

TEST(Tensor, ContiguousViewIsRowMajor) {
  std::array<float, 2 * 3 * 5> data{};
  const Tensor tensor(data.data(), DType::float32, {2, 3, 5});
  EXPECT_EQ(tensor.rank, 3);
  EXPECT_EQ(tensor.extents, (std::array<std::int64_t, 4>{2, 3, 5, 0}));
  EXPECT_EQ(tensor.strides, (std::array<std::int64_t, 4>{15, 5, 1, 0}));
  EXPECT_EQ(tensor.elements(), 30);
  EXPECT_EQ(tensor.data, data.data());
}

TEST(Tensor, RankZeroHoldsOneElement) {
  float data = 0;
  EXPECT_EQ(Tensor(&data, DType::float32, {}).elements(), 1);
}

TEST(Tensor, StridesMayBeZeroOrNegative) {
  const std::array<std::int64_t, 2> extents{4, 3}, strides{0, -1};
  const ConstTensor tensor(nullptr, DType::int32, extents, strides);
  EXPECT_EQ(tensor.strides[0], 0);
  EXPECT_EQ(tensor.strides[1], -1);
  EXPECT_EQ(tensor.elements(), 12);
}

TEST(Tensor, WritableViewReadsAsConstant) {
  std::array<float, 6> data{};
  const ConstTensor view = Tensor(data.data(), DType::float32, {2, 3});
  EXPECT_EQ(view.data, data.data());
  EXPECT_EQ(view.rank, 2);
  EXPECT_EQ(view.strides[0], 3);
}

TEST(Tensor, BadExtentsAreRefused) {
  const auto refused = [](std::initializer_list<std::int64_t> extents) {
    return refusal([&] { Tensor(nullptr, DType::float32, extents); });
  };
  EXPECT_NE(refused({1, 2, 3, 4, 5}).find("5 extents"), std::string::npos);
  EXPECT_NE(refused({2, -3}).find("-3 of axis 1"), std::string::npos);
  const std::int64_t half = std::int64_t{1} << 32;
  refused({half, half});
  refused({half, half, 0});
  EXPECT_EQ(Tensor(nullptr, DType::float32, {std::numeric_limits<std::int64_t>::max(), 0}).elements(), 0);
}

TEST(Tensor, ExtentsAndStridesMustMatch) {
  const std::array<std::int64_t, 2> extents{4, 3};
  const std::array<std::int64_t, 1> strides{1};
  EXPECT_NE(refusal([&] { Tensor(nullptr, DType::float32, extents, strides); }), "");
}

}  // namespace
}  // namespace tilewise

#include "core/check_tensor.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "tests/refusal.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

using Extents = std::vector<std::int64_t>;

std::array<float, 64> memory{};

ConstTensor strided(const Extents& extents, const Extents& strides) {
  return ConstTensor(memory.data(), DType::float32, extents, strides);
}

TEST(CheckTensor, MemoryIsExpectedWhereThereAreElements) {
  EXPECT_EQ(refusal([] {
              check_memory("q", ConstTensor(nullptr, DType::float32, {2, 3}));
            }),
            "q is null; expected memory for its extents [2, 3]");
  EXPECT_EQ(refusal([] { check_memory("q", ConstTensor(nullptr, DType::float32, {2, 0})); }), "");
  ConstTensor negative(memory.data(), DType::float32, {2, 3});
  negative.extents[0] = -2;
  EXPECT_EQ(refusal([&] { check_memory("q", negative); }), "q has extents [-2, 3]; expected none below 0");
}

TEST(CheckTensor, TheLastAxisIsContiguous) {
  EXPECT_EQ(refusal([] {
              check_memory("v", strided({2, 3}, {1, 2}));
            }),
            "v has strides [1, 2]; expected 1 along the last axis: copy it, or view it with that axis contiguous");
  EXPECT_EQ(refusal([] { check_memory("v", strided({2, 3}, {-7, 1})); }), "");
  EXPECT_EQ(refusal([] { check_memory("v", strided({2, 1}, {1, 2})); }), "");  // nothing to step to
  EXPECT_EQ(refusal([] { check_memory("v", strided({0, 3}, {0, 0})); }), "");  // no elements
  EXPECT_EQ(refusal([] { check_memory("v", strided({2, 0}, {0, 0})); }), "");
  EXPECT_EQ(refusal([] { check_memory("v", ConstTensor(memory.data(), DType::float32, {})); }), "");
}

TEST(CheckTensor, DTypesAndExtents) {
  EXPECT_EQ(refusal([] { check_floating("k", ConstTensor(memory.data(), DType::int8, {1})); }),
            "k has dtype int8; expected float64, float32, float16 or bfloat16");
  EXPECT_EQ(refusal([] { check_floating("k", ConstTensor(memory.data(), DType::bfloat16, {1})); }), "");
  const ConstTensor tensor(memory.data(), DType::float32, {2, 3});
  EXPECT_EQ(refusal([&] {
              check_extents("o", tensor, Extents{2, 4}, "as q");
            }),
            "o has extents [2, 3]; expected [2, 4], as q");
  EXPECT_EQ(refusal([&] { check_extents("o", tensor, Extents{2}, "as q"); }), "o has rank 2; expected 1: [2], as q");
  EXPECT_EQ(refusal([&] { check_extents("o", tensor, Extents{2, 3}, "as q"); }), "");
}

TEST(CheckTensor, ElementsOfOutputsAreDistinct) {
  const auto accepted = [](const Extents& extents, const Extents& strides) {
    return refusal([&] { check_distinct_elements("o", strided(extents, strides)); }).empty();
  };
  EXPECT_TRUE(accepted({2, 3, 4}, {12, 4, 1}));
  EXPECT_TRUE(accepted({2, 3, 4}, {4, 8, 1}));     // axes in another order
  EXPECT_TRUE(accepted({2, 3, 4}, {-12, -4, 1}));  // backwards
  EXPECT_TRUE(accepted({2, 3}, {3, 1}));
  EXPECT_TRUE(accepted({1, 3}, {0, 1}));  // no step along the first axis
  EXPECT_TRUE(accepted({0, 3}, {0, 0}));  // no elements
  EXPECT_FALSE(accepted({2, 3}, {0, 1}));
  EXPECT_FALSE(accepted({2, 3}, {2, 1}));
  EXPECT_FALSE(accepted({2, 3, 4}, {11, 4, 1}));
  EXPECT_FALSE(accepted({2, 2}, {-1, 1}));
  EXPECT_EQ(refusal([&] {
              check_distinct_elements("o", strided({2, 3}, {2, 1}));
            }),
            "o has extents [2, 3] and strides [2, 1]; expected an output whose elements share no memory");
}

}  // namespace
}  // namespace tilewise

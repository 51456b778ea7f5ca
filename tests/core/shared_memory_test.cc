#include "core/shared_memory.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

namespace tilewise {
namespace {

/// Nothing is read or written: addresses are enough.
const void* address(std::int64_t byte) { return reinterpret_cast<const void*>((std::uintptr_t{1} << 40) + byte); }

ConstTensor at(std::int64_t byte, DType dtype, const std::vector<std::int64_t>& extents,
               const std::vector<std::int64_t>& strides) {
  return ConstTensor(address(byte), dtype, extents, strides);
}

void expect_sharing(bool expected, const ConstTensor& a, const ConstTensor& b) {
  EXPECT_EQ(share_memory(a, b), expected);
  EXPECT_EQ(share_memory(b, a), expected);
}

TEST(SharedMemory, OfRangesOneAfterAnother) {
  const ConstTensor a = at(0, DType::float32, {2, 3}, {3, 1});
  expect_sharing(true, a, a);
  expect_sharing(false, a, at(24, DType::float32, {2, 3}, {3, 1}));
  expect_sharing(true, a, at(23, DType::uint8, {1}, {1}));
  expect_sharing(false, a, at(24, DType::uint8, {1}, {1}));
  expect_sharing(true, a, at(20, DType::float64, {}, {}));
  expect_sharing(true, a, at(24 + 8, DType::float32, {4}, {-1}));
  expect_sharing(false, a, at(24 + 12, DType::float32, {4}, {-1}));
}

TEST(SharedMemory, OfSlicesOfOneBuffer) {
  // A buffer [tokens, 3 heads' q, 2 k, 2 v, 4 numbers], as a fused projection leaves it.
  const auto slice = [](std::int64_t first, std::int64_t heads, DType dtype = DType::float32) {
    return at(first * 16, dtype, {heads, 5, 4}, {4, 28, 1});
  };
  expect_sharing(false, slice(0, 3), slice(3, 2));
  expect_sharing(false, slice(0, 3), slice(5, 2));
  expect_sharing(false, slice(3, 2), slice(5, 2));
  expect_sharing(true, slice(0, 4), slice(3, 2));
  expect_sharing(true, slice(6, 2), slice(0, 3));  // into the next token
  // A column behind each row: as where lse is stored with o.
  const ConstTensor rows = at(0, DType::float32, {6, 7}, {8, 1});
  expect_sharing(false, rows, at(28, DType::float32, {6}, {8}));
  expect_sharing(true, rows, at(27, DType::uint8, {6}, {32}));
  expect_sharing(true, rows, at(24, DType::float32, {6}, {8}));
}

TEST(SharedMemory, NeedsElements) {
  const ConstTensor a = at(0, DType::float32, {2, 3}, {3, 1});
  expect_sharing(false, a, at(0, DType::float32, {0}, {1}));
  expect_sharing(false, a, ConstTensor(nullptr, DType::float32, {2, 0}));
  expect_sharing(true, a, at(0, DType::float32, {7}, {0}));
}

/// Even strides, odd distance: nothing is shared, but only a look at everything would tell.
TEST(SharedMemory, WhatTakesTooLongCountsAsSharing) {
  const std::vector<std::int64_t> extents{1000, 1000, 1000, 1000};
  expect_sharing(true, at(0, DType::uint8, extents, {100'018, 101'014, 99'998, 2}),
                 at(1'000'001, DType::uint8, extents, {100'114, 100'858, 99'946, 99'988}));
}

std::set<std::int64_t> bytes_of(const ConstTensor& tensor) {
  std::set<std::int64_t> bytes;
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    std::int64_t rest = i, offset = 0;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
      offset += rest % tensor.extents[axis] * tensor.strides[axis];
      rest /= tensor.extents[axis];
    }
    const std::int64_t element = reinterpret_cast<std::intptr_t>(tensor.data) + offset * size_of(tensor.dtype);
    for (std::int64_t byte = 0; byte < size_of(tensor.dtype); ++byte) bytes.insert(element + byte);
  }
  return bytes;
}

ConstTensor random_tensor() {
  const auto rank = *rc::gen::inRange<std::size_t>(0, kMaxRank + 1);
  const auto dtype = *rc::gen::element(DType::float64, DType::float32, DType::float16, DType::uint8);
  return at(*rc::gen::inRange(1900, 2100), dtype,
            *rc::gen::container<std::vector<std::int64_t>>(rank, rc::gen::inRange<std::int64_t>(0, 5)),
            *rc::gen::container<std::vector<std::int64_t>>(rank, rc::gen::inRange<std::int64_t>(-16, 17)));
}

RC_GTEST_PROP(SharedMemoryLaw, IsACommonByte, ()) {
  const ConstTensor a = random_tensor(), b = random_tensor();
  bool common = false;
  const std::set<std::int64_t> of_a = bytes_of(a);
  for (const std::int64_t byte : bytes_of(b)) common = common || of_a.contains(byte);
  RC_CLASSIFY(common, "common");
  RC_ASSERT(share_memory(a, b) == common);
}

}  // namespace
}  // namespace tilewise

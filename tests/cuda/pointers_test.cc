// Memory that a kernel cannot reach is refused; against a driver of our own that has no GPU.
#include "cuda/launch/pointers.h"

#include <array>

#include "tests/jit/with_fake_driver.h"
#include "tests/refusal.h"

namespace tilewise::cuda {
namespace {

class Pointers : public jit::WithFakeDriver {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(WithFakeDriver::SetUp());
    driver_.emplace(jit::Driver::open({TILEWISE_FAKE_DRIVER}));
    context_.emplace(*driver_, 1);
    fake_->memory_ordinal = 1;
  }

  static ConstTensor at(std::uintptr_t address, std::initializer_list<std::int64_t> extents = {2, 3, 8}) {
    return {reinterpret_cast<const void*>(address), DType::bfloat16, extents};
  }

  std::optional<jit::Driver> driver_;
  std::optional<jit::Context> context_;
};

TEST_F(Pointers, OfTheGpuAndOfManagedMemoryPass) {
  expect_on_gpu(*context_, "q", at(0x1000));
  fake_->memory_type = 1;
  fake_->is_managed = 1;
  expect_on_gpu(*context_, "q", at(0x1000));
}

TEST_F(Pointers, OfTheHostAreRefused) {
  for (const unsigned type : {0, 1}) {  // unknown to the driver, and pinned
    fake_->memory_type = type;
    expect_refused([&] { expect_on_gpu(*context_, "k", at(0x1000)); },
                   {"k lies in the host's memory (0x1000)", "cuda:1", "copy"});
  }
}

TEST_F(Pointers, OfAnotherGpuAreRefused) {
  fake_->memory_ordinal = 0;
  expect_refused([&] { expect_on_gpu(*context_, "v", at(0x1000)); }, {"v lies on cuda:0", "expected cuda:1"});
}

TEST_F(Pointers, BetweenElementsAreRefused) {
  expect_refused([&] { expect_on_gpu(*context_, "o", at(0x1001)); },
                 {"o begins at 0x1001", "multiple of 2", "bfloat16"});
}

TEST_F(Pointers, ToNothingAreNotAskedFor) {
  fake_->memory_type = 0;
  expect_on_gpu(*context_, "q", at(0, {2, 0, 8}));
}

TEST(Alignment, IsThatOfEveryRow) {
  alignas(16) static std::array<std::uint16_t, 64> memory{};
  const auto aligned = [](std::size_t first, std::initializer_list<std::int64_t> extents,
                          std::initializer_list<std::int64_t> strides) {
    return is_aligned(ConstTensor(memory.data() + first, DType::bfloat16, std::span(extents.begin(), extents.size()),
                                  std::span(strides.begin(), strides.size())));
  };
  EXPECT_TRUE(aligned(0, {2, 2, 8}, {16, 8, 1}));
  EXPECT_TRUE(aligned(8, {2, 2, 8}, {16, 8, 1}));
  EXPECT_FALSE(aligned(1, {2, 2, 8}, {16, 8, 1}));
  EXPECT_FALSE(aligned(0, {2, 2, 8}, {16, 12, 1}));
  EXPECT_FALSE(aligned(0, {2, 2, 8}, {20, 8, 1}));
  EXPECT_TRUE(aligned(0, {1, 2, 8}, {20, 8, 1}));  // an axis of one is never stepped along
}

}  // namespace
}  // namespace tilewise::cuda

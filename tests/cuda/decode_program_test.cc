// Decoding kernels compiled for each GPU generation, and the arithmetic of their plans.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/launch/decode.h"
#include "cuda/launch/kernel_text.h"
#include "tests/jit/support.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda {
namespace {

class DecodeProgram : public jit::WithNvrtc, public ::testing::WithParamInterface<const char*> {
 protected:
  void expect_in_registers(const Variant& variant, const ForwardShape& shape, int most_stack = 16) {
    const jit::Architecture architecture = jit::Architecture::parse(GetParam());
    const auto plan = choose_decode(shape, Multiprocessor::of(architecture), 128, false, changes_scores(variant));
    ASSERT_TRUE(plan);
    const jit::Binary binary =
        nvrtc_->compile(decode_program(variant, variant::cuda_text(variant), shape, *plan, architecture));
    const jit::Resources resources = binary.kernel("decode").resources.value();
    SCOPED_TRACE(fmt::format("{}, d {}/{}, {}", to_string(variant), shape.d_qk, shape.d_v, plan->text()));
    EXPECT_LE(resources.registers, 65536 / (plan->blocks * plan->threads()));
    EXPECT_LE(resources.stack_bytes, most_stack);
    EXPECT_LE(resources.shared_bytes, plan->is_wide ? 96 * plan->rows : 2048);
  }
};

TEST_P(DecodeProgram, StaysInRegisters) {
  for (const int d : {64, 128}) {
    for (const int multiple : {0, 1, 16}) {
      ForwardShape shape{.d_qk = d, .d_v = d, .is_paged = multiple > 0, .page_multiple = std::max(multiple, 1)};
      SCOPED_TRACE(fmt::format("d {}, pages of multiples of {}", d, multiple));
      expect_in_registers(Variant(), shape);
      shape.has_lists = true;
      expect_in_registers(zoo::causal(), shape);
    }
    expect_in_registers(zoo::alibi(32) & zoo::softcap(30), {.d_qk = d, .d_v = d});
  }
  expect_in_registers(Variant(), {.dtype = DType::float16, .d_qk = 40, .d_v = 72});
}

TEST_P(DecodeProgram, TakesLatentAttention) {
  for (const bool is_paged : {false, true}) {
    expect_in_registers(Variant(), {.d_qk = 576, .d_v = 512, .is_paged = is_paged, .values_in_keys = true});
    expect_in_registers(zoo::causal() & zoo::softcap(30),
                        {.d_qk = 576, .d_v = 512, .has_lists = true, .is_paged = is_paged, .values_in_keys = true});
  }
  // 33 and 17 blocks of columns divide among no number of warps, which a condition at each of them costs.
  expect_in_registers(Variant(), {.dtype = DType::float16, .d_qk = 520, .d_v = 264}, 64);
}

class LatentByWgmma : public jit::WithNvrtc {};

// Its products run on their own: the assembler says where it makes them wait for each other (C7510 to C7517, C7520), or
// ignores setmaxnreg (C7508).
TEST_F(LatentByWgmma, StaysInRegistersAndProductsRunOnTheirOwn) {
  const jit::Architecture architecture = jit::Architecture::parse("sm_90a");
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::softcap(30) & zoo::window(100)}) {
    for (const bool is_paged : {false, true}) {
      const ForwardShape shape{.d_qk = 576,
                               .d_v = 512,
                               .has_lists = !(to_string(variant) == to_string(Variant())),
                               .is_paged = is_paged,
                               .page_multiple = is_paged ? 8 : 1,
                               .values_in_keys = true};
      const auto plan = choose_decode(shape, Multiprocessor::of(architecture), 128, true);
      ASSERT_TRUE(plan && plan->is_hopper);
      const jit::Binary binary =
          nvrtc_->compile(decode_program(variant, variant::cuda_text(variant), shape, *plan, architecture));
      SCOPED_TRACE(fmt::format("{}, paged {}: {}", to_string(variant), is_paged, binary.log));
      for (const char* remark : {"C7508", "C7510", "C7511", "C7512", "C7513", "C7514", "C7515", "C7517", "C7520"})
        EXPECT_EQ(binary.log.find(remark), std::string::npos) << remark;
      const jit::Resources resources = binary.kernel("decode").resources.value();
      EXPECT_EQ(resources.stack_bytes, 0);
      EXPECT_LE(resources.shared_bytes, 96 * plan->rows);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Generations, DecodeProgram, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100"),
                         [](const auto& one) { return std::string(one.param); });

TEST(DecodePlans, FitEveryGeneration) {
  for (const char* name : {"sm_80", "sm_89", "sm_90a", "sm_100"}) {
    const Multiprocessor limits = Multiprocessor::of(jit::Architecture::parse(name));
    for (int d = 8; d <= 128; d += 8) {
      const ForwardShape shape{.d_qk = d, .d_v = d};
      const auto plan = choose_decode(shape, limits, 16);
      ASSERT_TRUE(plan) << name << ", d " << d;
      EXPECT_GE(plan->stages, 2);
      EXPECT_LE(plan->shared_bytes(shape), limits.shared_bytes_per_block);
    }
    EXPECT_FALSE(choose_decode({.has_dropout = true}, limits, 16));
    EXPECT_FALSE(choose_decode({.is_aligned = false}, limits, 16));
  }
}

TEST(DecodePlans, HaveOneBlockWhereReadingIsAllThatTheyWaitFor) {
  const Multiprocessor hopper = Multiprocessor::of(jit::Architecture::parse("sm_90a"));
  const auto blocks = [&](const ForwardShape& shape, bool has_scores, bool has_many_units = false) {
    return choose_decode(shape, hopper, 16, false, has_scores, has_many_units)->blocks;
  };
  EXPECT_EQ(blocks({.d_qk = 128, .d_v = 128}, false), 1);
  EXPECT_EQ(blocks({.d_qk = 128, .d_v = 128}, true), 2);
  EXPECT_EQ(blocks({.d_qk = 128, .d_v = 128}, false, true), 2);
  EXPECT_EQ(blocks({.d_qk = 128, .d_v = 128, .is_paged = true}, false), 2);
  EXPECT_EQ(blocks({.d_qk = 64, .d_v = 64}, false), 2);
  EXPECT_EQ(blocks({.d_qk = 192, .d_v = 128}, true), 1);  // the sums take the registers of two
  // Seven tiles of keys and values, 64 rows of 256 bytes each: 224 of 227 KiB.
  EXPECT_EQ(choose_decode({.d_qk = 128, .d_v = 128}, hopper, 16)->stages, 7);
}

TEST(DecodePlans, OfLatentAttentionReadValuesOnce) {
  const Multiprocessor hopper = Multiprocessor::of(jit::Architecture::parse("sm_90a"));
  const ForwardShape shape{.d_qk = 576, .d_v = 512, .values_in_keys = true};
  const auto plan = choose_decode(shape, hopper, 128);
  ASSERT_TRUE(plan && plan->is_wide && plan->values_in_keys);
  EXPECT_EQ(plan->rows, 64);
  // Queries, weights of 32 keys in whole lines of 128 bytes, and the stages' keys.
  EXPECT_EQ(plan->shared_bytes(shape), 64 * 1152 + 64 * 128 + plan->stages * 32 * 1152);
  EXPECT_EQ(choose_decode(shape, hopper, 16)->rows, 16);
  EXPECT_THROW(validate_decode({.d_qk = 584, .d_v = 512}), Error);
  EXPECT_THROW(validate_decode({.d_qk = 572, .d_v = 512}), Error);
}

TEST(DecodePlans, TakeWgmmaForLatentAttentionOfMoreThan16Rows) {
  const Multiprocessor hopper = Multiprocessor::of(jit::Architecture::parse("sm_90a"));
  const ForwardShape shape{.d_qk = 576, .d_v = 512, .values_in_keys = true};
  const auto plan = choose_decode(shape, hopper, 128, true);
  ASSERT_TRUE(plan && plan->is_hopper);
  EXPECT_EQ(plan->threads(), 512);
  EXPECT_EQ(plan->shared_bytes(shape), (64 + plan->stages * 64) * 1152);  // queries and the stages' keys
  EXPECT_LE(plan->shared_bytes(shape), hopper.shared_bytes_per_block);
  EXPECT_FALSE(choose_decode(shape, hopper, 16, true)->is_hopper);
  const auto is_taken = [&](const ForwardShape& other) { return choose_decode(other, hopper, 128, true)->is_hopper; };
  ForwardShape other = shape;
  other.values_in_keys = false;
  EXPECT_FALSE(is_taken(other));
  other = shape, other.is_paged = true;  // pages of any size
  EXPECT_FALSE(is_taken(other));
  other.page_multiple = 8;
  EXPECT_TRUE(is_taken(other));
  other = shape, other.d_qk = 512;  // no columns beside the values, in whose place the weights lie
  EXPECT_FALSE(is_taken(other));
}

TEST(DecodeSplits, FillTheGpuAndNoMore) {
  constexpr std::int64_t kSlots = 264;  // 132 multiprocessors with 2 blocks each
  EXPECT_EQ(decode_splits(16 * 8, kSlots, 8192, 64), 2);
  EXPECT_EQ(decode_splits(8, kSlots, 65536, 64), 32);
  EXPECT_EQ(decode_splits(64 * 8, kSlots, 4096, 64), 1);
  EXPECT_EQ(decode_splits(5000, kSlots, 65536, 64), 1);
  EXPECT_EQ(decode_splits(1, kSlots, 256, 64), 1);
  EXPECT_EQ(decode_splits(0, kSlots, 100, 64), 1);
  for (std::int64_t units = 1; units < 3000; units += 7) {
    for (const std::int64_t s_kv : {0, 1, 64, 500, 4096, 100000}) {
      const std::int64_t splits = decode_splits(units, kSlots, s_kv, 64);
      EXPECT_GE(splits, 1);
      EXPECT_LE(units * splits, most_decode_parts(units, kSlots));
      EXPECT_LE(splits, std::max<std::int64_t>(1, s_kv / 256 + 1));
    }
  }
}

}  // namespace
}  // namespace tilewise::cuda

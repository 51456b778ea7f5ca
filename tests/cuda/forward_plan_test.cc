// The arithmetic by which forward plans are chosen.
#include "cuda/plan/forward_plan.h"

#include <gtest/gtest.h>

#include "tilewise/error.h"

namespace tilewise::cuda {
namespace {

const Multiprocessor kHopper = Multiprocessor::of(jit::Architecture::parse("sm_90a"));
const Multiprocessor kAda = Multiprocessor::of(jit::Architecture::parse("sm_89"));

ForwardShape shape_of(int d_qk, int d_v) {
  ForwardShape shape;
  shape.d_qk = d_qk;
  shape.d_v = d_v;
  return shape;
}

TEST(ForwardPlan, SharedMemoryIsTheQueriesAndTheStages) {
  const ForwardPlan plan{.warps = 4, .row_blocks = 2, .key_tile = 32, .stages = 3};
  // 128 queries of 256 bytes, and three times 32 keys and values of 256 bytes.
  EXPECT_EQ(plan.shared_bytes(shape_of(128, 128)), 128 * 256 + 3 * (32 * 256 + 32 * 256));
  // Rows take whole lines of 128 bytes: 72 columns are 144 bytes, so two lines; 8 columns one.
  EXPECT_EQ(plan.shared_bytes(shape_of(72, 8)), 128 * 256 + 3 * (32 * 256 + 32 * 128));
}

TEST(ForwardPlan, TheOutputTakesNoSharedMemory) {
  const ForwardPlan plan{.warps = 8, .row_blocks = 1, .key_tile = 16, .stages = 3};
  // Rows leave from registers: 128 queries of 128 bytes, 48 keys of 128 and 48 values of 512.
  EXPECT_EQ(plan.shared_bytes(shape_of(8, 256)), 128 * 128 + 48 * (128 + 512));
}

TEST(ForwardPlan, AFourthStageHasBarriers) {
  const ForwardPlan plan{.warps = 4, .row_blocks = 2, .key_tile = 32, .stages = 4};
  EXPECT_EQ(plan.shared_bytes(shape_of(128, 128)), 128 * 256 + 4 * (32 * 256 + 32 * 256) + 4 * 2 * 8);
}

TEST(ForwardPlan, ScoresLeaveWarpsInStep) {
  const Multiprocessor hopper = Multiprocessor::of(jit::Architecture::parse("sm_90a"));
  EXPECT_EQ(choose_forward(shape_of(64, 64), hopper, {}).stages, 3);
  const ForwardShape wide = shape_of(128, 128);
  EXPECT_EQ(choose_forward(wide, hopper, {}).stages, 4);
  EXPECT_EQ(choose_forward(wide, hopper, {.query = 1}).stages, 4);  // made once a row
  for (const ForwardPlan& plan : forward_candidates(wide, hopper, {.are_of_scores = true})) EXPECT_LE(plan.stages, 3);
}

TEST(ForwardPlan, RegistersAreTheOutputTwoTilesOfScoresAndTheQueries) {
  ForwardPlan plan{.warps = 4, .row_blocks = 2, .key_tile = 32, .stages = 3};
  // A lane holds 32 x 128 / 32 outputs and twice 32 x 32 / 32 scores.
  EXPECT_EQ(plan.matrix_registers(shape_of(64, 128)), 128 + 2 * 32);
  plan.query_in_registers = true;
  // 32 x 64 elements of two bytes, by 32 lanes of four bytes.
  EXPECT_EQ(plan.matrix_registers(shape_of(64, 128)), 128 + 2 * 32 + 32);
}

TEST(ForwardPlan, BlocksShareTheRegisters) {
  ForwardPlan plan{.warps = 4};
  plan.blocks = 2;
  EXPECT_EQ(plan.register_limit(kHopper), 255);  // 65536 / 256 = 256, but a thread has 255 at most
  plan.blocks = 3;
  EXPECT_EQ(plan.register_limit(kHopper), 168);  // 65536 / 384 = 170.7, in eights
}

TEST(ForwardPlan, EveryShapeHasAPlanOnEveryGpu) {
  for (const Multiprocessor& limits : {kHopper, kAda, Multiprocessor::of(jit::Architecture::parse("sm_80"))}) {
    for (int d_qk = 8; d_qk <= 256; d_qk += 8) {
      for (int d_v = 8; d_v <= 256; d_v += 8) {
        for (const DType dtype : {DType::bfloat16, DType::float32}) {
          ForwardShape shape = shape_of(d_qk, d_v);
          shape.dtype = dtype;
          const auto plans = forward_candidates(shape, limits);
          ASSERT_FALSE(plans.empty()) << d_qk << " " << d_v << " " << to_string(dtype);
          for (const ForwardPlan& plan : plans) {
            EXPECT_TRUE(plan.fits(shape, limits)) << plan.text();
            EXPECT_LE(plan.shared_bytes(shape), limits.shared_bytes_per_block);
            EXPECT_LE(plan.blocks * (plan.shared_bytes(shape) + 1024), limits.shared_bytes);
          }
        }
      }
    }
  }
}

TEST(ForwardPlan, SaysWhatItDoesNotTake) {
  for (const auto& [d_qk, d_v] : {std::pair{12, 64}, {0, 64}, {264, 64}, {64, 4}, {64, -8}}) {
    try {
      choose_forward(shape_of(d_qk, d_v), kHopper);
      FAIL() << d_qk << " " << d_v;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
    }
  }
  ForwardShape shape = shape_of(64, 64);
  shape.dtype = DType::int32;
  EXPECT_THROW(validate(shape), Error);
}

}  // namespace
}  // namespace tilewise::cuda

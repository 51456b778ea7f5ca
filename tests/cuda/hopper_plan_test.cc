// The arithmetic of the plans for compute capability 9.0.
#include "cuda/plan/hopper_plan.h"

#include <gtest/gtest.h>

namespace tilewise::cuda {
namespace {

const Multiprocessor kHopper = Multiprocessor::of(jit::Architecture::parse("sm_90a"));

ForwardShape shape_of(int d_qk, int d_v) {
  ForwardShape shape;
  shape.d_qk = d_qk;
  shape.d_v = d_v;
  return shape;
}

TEST(HopperPlan, ConsumersTakeOnNoMoreRegistersThanTheProducerGivesUp) {
  for (const int consumers : {2, 3}) {
    const HopperForwardPlan plan{.consumers = consumers};
    EXPECT_LE(plan.producer_registers() + consumers * plan.consumer_registers(),
              (1 + consumers) * plan.launch_registers());
    for (const int registers : {plan.producer_registers(), plan.consumer_registers()}) EXPECT_EQ(registers % 8, 0);
  }
  const HopperBackwardPlan plan;
  EXPECT_LE(plan.producer_registers() + 2 * plan.consumer_registers(), 3 * (65536 / plan.threads() / 8 * 8));
}

TEST(HopperPlan, SharedMemoryIsTheTiles) {
  // 128 queries of 256 bytes, and two tiles each of 128 keys and values.
  EXPECT_EQ((HopperForwardPlan{2, 128, 2, true}).tile_bytes(shape_of(128, 128)), 128 * 256 + 2 * 2 * 128 * 256);
  // 72 columns take two chunks of 64, 40 columns one.
  EXPECT_EQ((HopperForwardPlan{3, 112, 4, false}).tile_bytes(shape_of(72, 40)),
            192 * 256 + 4 * (112 * 256 + 112 * 128));
  // k and v, two tiles of q and d_o with two numbers a row, and d_s twice.
  EXPECT_EQ(HopperBackwardPlan{2}.tile_bytes(shape_of(128, 128)),
            2 * 128 * 256 + 2 * (2 * 64 * 256 + 2 * 64 * 4) + 2 * 64 * 256);
  // Of wide heads a block has 64 keys.
  EXPECT_EQ((HopperBackwardPlan{2, false, 64}).tile_bytes(shape_of(256, 256)),
            2 * 64 * 512 + 2 * (2 * 64 * 512 + 2 * 64 * 4) + 2 * 64 * 128);
}

TEST(HopperPlan, EveryShapeHasAPlanThatFits) {
  for (int d_qk = 8; d_qk <= 256; d_qk += 8) {
    for (int d_v = 8; d_v <= 256; d_v += 8) {
      const ForwardShape shape = shape_of(d_qk, d_v);
      for (const ScoreKind scores : {ScoreKind::none, ScoreKind::entries, ScoreKind::tiles, ScoreKind::steady}) {
        const auto plans = hopper_forward_candidates(shape, scores, kHopper);
        ASSERT_FALSE(plans.empty()) << d_qk << " " << d_v;
        for (const HopperForwardPlan& plan : plans) EXPECT_TRUE(plan.fits(shape, kHopper)) << plan.text();
      }
      if (hopper_backward_refusal(shape).empty()) {
        for (const bool changes_scores : {false, true})
          EXPECT_FALSE(hopper_backward_candidates(shape, changes_scores, kHopper).empty()) << d_qk << " " << d_v;
      }
    }
  }
}

TEST(HopperPlan, TakesSmallTilesForSmallParts) {
  ForwardShape shape = shape_of(128, 128);
  shape.has_lists = true;
  const auto key_tile = [&](ScoreKind scores) {
    return hopper_forward_candidates(shape, scores, kHopper).front().key_tile;
  };
  EXPECT_EQ(key_tile(ScoreKind::none), 128);
  shape.has_small_parts = true;
  EXPECT_EQ(key_tile(ScoreKind::none), 64);
  EXPECT_EQ(key_tile(ScoreKind::entries), 128);
  shape.d_v = 64;
  EXPECT_FALSE(takes_small_parts(shape, ScoreKind::none));
}

TEST(HopperPlan, SaysWhatItDoesNotTake) {
  ForwardShape shape = shape_of(64, 64);
  EXPECT_EQ(hopper_refusal(shape), "");
  EXPECT_EQ(hopper_backward_refusal(shape_of(136, 256)), "");
  shape.is_aligned = false;
  EXPECT_NE(hopper_refusal(shape), "");
  EXPECT_NE(hopper_backward_refusal(shape), "");
  shape = shape_of(64, 64);
  shape.is_paged = true;
  EXPECT_NE(hopper_refusal(shape), "");
  shape.pages_of_eights = true;
  EXPECT_EQ(hopper_refusal(shape), "");
  EXPECT_NE(hopper_backward_refusal(shape), "");
  shape = shape_of(64, 128);
  shape.has_gradients = true;
  EXPECT_EQ(hopper_backward_refusal(shape), "");
  shape = shape_of(64, 136);
  shape.has_gradients = true;
  EXPECT_NE(hopper_backward_refusal(shape), "");
}

TEST(HopperPlan, SharedMemoryOfGradientsIsThatOfTheirClasses) {
  const auto other_shared = [](const GradientSlots& slots) {
    return HopperBackwardPlan{2, true, 128, slots}.other_shared();
  };
  const std::int64_t none = other_shared({}), one = other_shared({0, 0, 0, 0, 1});
  // 384 bytes of the head, and 1024 to round up with, for each of two consumers.
  EXPECT_EQ(one - none, 2 * (384 + 1024));
  // A number and two of each thread.
  EXPECT_EQ(other_shared({1, 0, 1, 0, 1}) - one, 2 * 3 * 512);
  // Each warp's eight rows of 84 numbers, however many need them; a number a thread and three elements of each warp.
  EXPECT_EQ(other_shared({0, 2, 0, 2, 1}) - one, 2 * (4 * 8 * 84 * 4 + 2 * (512 + 3 * 4 * 8)));
}

}  // namespace
}  // namespace tilewise::cuda

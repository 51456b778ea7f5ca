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
  // Of float8_e4m3 rows have a byte a column, and values lie transposed: a row of 128 bytes for each of their columns.
  ForwardShape float8 = shape_of(128, 128);
  float8.dtype = DType::float8_e4m3;
  EXPECT_EQ((HopperForwardPlan{2, 128, 2, true}).tile_bytes(float8), 128 * 128 + 2 * (128 * 128 + 128 * 128));
  float8.d_qk = 192, float8.d_v = 48;
  EXPECT_EQ((HopperForwardPlan{2, 64, 2, true}).tile_bytes(float8), 128 * 256 + 2 * (64 * 256 + 48 * 128));
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

TEST(HopperPlan, WideHeadsComeInPairsOfBlocksUnlessTheirOrderIsFixed) {
  const auto first = [](ForwardShape shape) { return hopper_backward_candidates(shape, false, kHopper).front(); };
  ForwardShape wide = shape_of(256, 256);
  EXPECT_TRUE(first(wide).is_paired);
  EXPECT_EQ(first(wide).tile_keys(), 128);
  EXPECT_EQ(first(wide).tile_bytes(wide), (HopperBackwardPlan{2, false, 64}).tile_bytes(wide));
  wide.is_deterministic = true;
  EXPECT_FALSE(first(wide).is_paired);
  EXPECT_EQ(first(wide).tile_keys(), 64);
  EXPECT_FALSE(first(shape_of(128, 128)).is_paired);
}

TEST(HopperPlan, EveryShapeHasAPlanThatFits) {
  for (int d_qk = 8; d_qk <= 256; d_qk += 8) {
    for (int d_v = 8; d_v <= 256; d_v += 8) {
      const ForwardShape shape = shape_of(d_qk, d_v);
      for (const bool has_scores : {false, true}) {
        const auto plans = hopper_forward_candidates(shape, {has_scores}, kHopper);
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

TEST(HopperPlan, ShortSequencesOfNarrowHeadsGetSmallTiles) {
  const auto key_tile = [](int keys, bool has_lists, int d) {
    ForwardShape shape = shape_of(d, d);
    shape.has_lists = has_lists;
    shape.short_keys = ForwardShape::short_keys_of(keys);
    return hopper_forward_candidates(shape, {}, kHopper).front().key_tile;
  };
  EXPECT_EQ(key_tile(512, false, 64), 64);
  EXPECT_EQ(key_tile(1024, false, 64), 64);
  EXPECT_EQ(key_tile(1025, false, 64), 112);
  EXPECT_EQ(key_tile(512, true, 64), 64);
  EXPECT_EQ(key_tile(513, true, 64), 96);
  EXPECT_EQ(key_tile(1 << 20, true, 64), 96);
  for (const bool has_lists : {false, true}) EXPECT_EQ(key_tile(512, has_lists, 128), 128);
}

TEST(HopperPlan, TilesOfThreeConsumersEndWithTheQueriesUnderMasksAlone) {
  const auto ends = [](int d, bool has_lists, ScoreWork scores) {
    ForwardShape shape = shape_of(d, d);
    shape.has_lists = has_lists;
    return hopper_forward_candidates(shape, scores, kHopper).front().tile().ends_with_queries;
  };
  const ScoreWork along_diagonals{.mask_follows_diagonals = true};
  EXPECT_TRUE(ends(64, true, along_diagonals));
  EXPECT_FALSE(ends(64, false, along_diagonals));
  EXPECT_FALSE(ends(64, true, {}));
  EXPECT_FALSE(ends(64, true, {.is_any = true, .mask_follows_diagonals = true}));
  EXPECT_FALSE(ends(128, true, along_diagonals));
}

TEST(HopperPlan, TakesSmallTilesForSmallParts) {
  ForwardShape shape = shape_of(128, 128);
  shape.has_lists = true;
  const auto key_tile = [&](bool has_scores) {
    return hopper_forward_candidates(shape, {has_scores}, kHopper).front().key_tile;
  };
  EXPECT_EQ(key_tile(false), 128);
  shape.has_small_parts = true;
  EXPECT_EQ(key_tile(false), 64);
  EXPECT_EQ(key_tile(true), 128);
  const ScoreWork along_diagonals{.mask_follows_diagonals = true};
  EXPECT_EQ(cost_of_small_tiles(shape, {}), cost_of_small_tiles(shape, along_diagonals));
  shape.d_qk = shape.d_v = 64;
  EXPECT_LT(cost_of_small_tiles(shape, {}), cost_of_small_tiles(shape, along_diagonals));
  EXPECT_EQ(hopper_forward_candidates(shape, {}, kHopper).front().tile(), (ListTile{.queries = 192, .keys = 64}));
  shape.d_qk = shape.d_v = 256;
  EXPECT_EQ(hopper_forward_candidates(shape, {}, kHopper).front().tile(), (ListTile{.queries = 128, .keys = 64}));
  shape.has_lists = false;
  EXPECT_FALSE(takes_small_parts(shape, false));
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
  shape.page_multiple = 8;
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

TEST(HopperPlan, TilesOfFloat8HaveOneScale) {
  for (int d_qk = 16; d_qk <= 256; d_qk += 16) {
    for (int d_v = 16; d_v <= 256; d_v += 16) {
      ForwardShape shape = shape_of(d_qk, d_v);
      shape.dtype = DType::float8_e4m3;
      EXPECT_EQ(hopper_float8_refusal(shape, false), "");
      const auto candidates = hopper_float8_candidates(shape, kHopper);
      ASSERT_FALSE(candidates.empty()) << d_qk << ", " << d_v;
      for (const HopperForwardPlan& plan : candidates) EXPECT_EQ(128 % plan.key_tile, 0);
    }
  }
  EXPECT_EQ(float8_blocks(0), 0);
  EXPECT_EQ(float8_blocks(129), 2);
  EXPECT_EQ(float8_value_bytes(129, 64), 2 * 128 * 64);
}

TEST(HopperPlan, Float8IsRefusedByName) {
  const auto refusal = [](bool changes_scores, auto change) {
    ForwardShape shape = shape_of(128, 128);
    shape.dtype = DType::float8_e4m3;
    change(shape);
    return hopper_float8_refusal(shape, changes_scores);
  };
  EXPECT_NE(refusal(true, [](ForwardShape&) {}).find("score functions"), std::string::npos);
  EXPECT_NE(refusal(false, [](ForwardShape& shape) { shape.has_dropout = true; }).find("dropout"), std::string::npos);
  EXPECT_NE(refusal(false, [](ForwardShape& shape) { shape.is_paged = true; }).find("pages"), std::string::npos);
  EXPECT_NE(refusal(false, [](ForwardShape& shape) { shape.d_v = 72; }).find("d_v is 72"), std::string::npos);
  EXPECT_NE(refusal(false, [](ForwardShape& shape) { shape.is_aligned = false; }).find("16 bytes"), std::string::npos);
  EXPECT_NE(refusal(false, [](ForwardShape& shape) { shape.o_dtype = DType::float32; }).find("o_dtype is float32"),
            std::string::npos);
}

}  // namespace
}  // namespace tilewise::cuda

// Backward kernels compiled for each GPU generation, and what they take of it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/launch/backward.h"
#include "cuda/launch/kernel_text.h"
#include "tests/jit/support.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda {
namespace {

class BackwardProgram : public jit::WithNvrtc, public ::testing::WithParamInterface<const char*> {
 protected:
  jit::Resources compile(const Variant& variant, const ForwardShape& shape) {
    const variant::CudaText text = kernel_text(variant, shape.dtype, true);
    const jit::Architecture architecture = jit::Architecture::parse(GetParam());
    const BackwardPlan plan = choose_backward(shape, changes_scores(variant), Multiprocessor::of(architecture),
                                              kept_fields(variant, shape.dtype));
    const jit::Binary binary = nvrtc_->compile(backward_program(variant, text, shape, plan, architecture));
    EXPECT_EQ(binary.log.find("warning"), std::string::npos) << binary.log;
    return binary.kernel("backward").resources.value();
  }
};

// 128 bytes are 32 of 255 registers, put aside once a tile of 64 x 128: four stores beside 320 matrix products. ALiBi
// keeps 2.5 KB of a tile, for which 8.0 has no room beside tiles of 64 x 128; those of 64 x 64 put twice as much aside.
TEST_P(BackwardProgram, SpillsLittle) {
  for (const int d : {64, 128}) {
    for (const Variant& variant : {Variant(), zoo::causal(), zoo::softcap(30), zoo::alibi(8) & zoo::causal()}) {
      SCOPED_TRACE(fmt::format("d {}", d));
      ForwardShape shape;
      shape.d_qk = shape.d_v = d;
      shape.has_lists = !variant.data().stages.empty();
      EXPECT_LE(compile(variant, shape).stack_bytes, GetParam() == std::string("sm_80") ? 256 : 128);
    }
  }
}

TEST_P(BackwardProgram, CompilesForEveryKindOfShape) {
  for (const auto& [d_qk, d_v] : {std::pair{8, 8}, {40, 72}, {96, 128}, {192, 128}, {256, 256}}) {
    ForwardShape shape;
    shape.d_qk = d_qk;
    shape.d_v = d_v;
    shape.dtype = d_qk == 40 ? DType::float16 : DType::bfloat16;
    shape.has_dropout = d_qk == 96;
    shape.is_aligned = d_qk != 8;
    compile(Variant(), shape);
  }
}

// Gradients of tables keep a tile's products and the sums of their classes besides.
TEST_P(BackwardProgram, CompilesWithGradientsOfTablesAndParameters) {
  const Table bias("bias", DType::float32, 2);
  const Parameter cap("cap", 1, 100);
  const Variant variant = zoo::causal() &
                          score([&](Expr s, const At& at) { return cap * tanh(s / cap) + bias(at.head, at.key); }) &
                          zoo::attention_sink();
  for (const int d : {64, 128}) compile(variant, {.d_qk = d, .d_v = d, .has_lists = true, .has_gradients = true});
  const Table by_distance("by_distance", DType::float32, 2);
  const Variant diagonal =
      score([&](Expr s, const At& at) { return s + by_distance(at.head, at.query_index - at.key_index + 100); });
  for (const int d : {64, 128})
    EXPECT_LE(compile(diagonal, {.d_qk = d, .d_v = d, .has_gradients = true}).stack_bytes, 512);
}

INSTANTIATE_TEST_SUITE_P(Generations, BackwardProgram, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100"),
                         [](const auto& one) { return std::string(one.param); });

TEST(BackwardPlans, AddUpSharedMemory) {
  const ForwardShape shape;
  // k, v and two tiles each of q and d_o, rows of 256 bytes; 64 x 64 gradients; two numbers for 64 rows, twice; 64
  // bytes of barriers.
  const BackwardPlan in_registers{64, 64, 4, 2, 1, 1};
  EXPECT_EQ(in_registers.shared_bytes(shape), 6 * 64 * 256 + 64 * 128 + 2 * 2 * 64 * 4 + 64);
  // Twice the keys, and weights beside gradients.
  const BackwardPlan shared{64, 128, 8, 2, 2, 2};
  EXPECT_EQ(shared.shared_bytes(shape), 2 * 128 * 256 + 4 * 64 * 256 + 2 * 128 * 128 + 2 * 2 * 64 * 4 + 64);
  // d_k and d_v: 2 x 4 blocks of 16 x 16, eight registers each; two tiles of scores of 2 x 2.
  EXPECT_EQ(shared.matrix_registers(shape), 2 * 2 * 4 * 8 + 2 * 2 * 2 * 8);
}

TEST(BackwardPlans, FitEveryGeneration) {
  for (const char* name : {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"}) {
    const Multiprocessor limits = Multiprocessor::of(jit::Architecture::parse(name));
    for (int d_qk = 8; d_qk <= 256; d_qk += 8) {
      for (const int d_v : {8, 64, 128, 256}) {
        for (const BackwardPlan& plan : backward_candidates({.d_qk = d_qk, .d_v = d_v}, d_v == 64, limits)) {
          EXPECT_TRUE(plan.fits({.d_qk = d_qk, .d_v = d_v}, limits)) << name << ", " << d_qk << ", " << plan.text();
        }
      }
    }
  }
  EXPECT_THROW(choose_backward({.d_qk = 264, .d_v = 64}, false, Multiprocessor::of(jit::Architecture::parse("sm_90a"))),
               Error);
}

TEST(BackwardPlans, HaveMoreWarpsForScores) {
  const Multiprocessor hopper = Multiprocessor::of(jit::Architecture::parse("sm_90a"));
  const BackwardPlan plain = choose_backward({.d_qk = 64, .d_v = 64}, false, hopper),
                     scored = choose_backward({.d_qk = 64, .d_v = 64}, true, hopper);
  EXPECT_EQ(plain.warps * plain.blocks, 8);
  EXPECT_EQ(scored.warps * scored.blocks, 16);
  EXPECT_EQ(choose_backward({}, true, hopper), choose_backward({}, false, hopper));  // no room at 128 columns
}

TEST(BackwardPlans, SplitDeterministicSumsByTheKeysAlone) {
  EXPECT_EQ(deterministic_parts(0), 1);
  EXPECT_EQ(deterministic_parts(2047), 1);
  EXPECT_EQ(deterministic_parts(2048), 2);
  EXPECT_EQ(deterministic_parts(1 << 20), 8);
}

}  // namespace
}  // namespace tilewise::cuda

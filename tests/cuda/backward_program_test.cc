// Backward kernels compiled for each GPU generation, and what they take of it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/launch/backward.h"
#include "tests/jit/support.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda {
namespace {

class BackwardProgram : public jit::WithNvrtc, public ::testing::WithParamInterface<const char*> {
 protected:
  jit::Resources compile(const Variant& variant, const ForwardShape& shape) {
    const variant::CudaText text = variant::cuda_text(variant, true, shape.has_gradients);
    const jit::Binary binary =
        nvrtc_->compile(backward_program(variant, text, shape, jit::Architecture::parse(GetParam())));
    EXPECT_EQ(binary.log.find("warning"), std::string::npos) << binary.log;
    return binary.kernel("backward").resources.value();
  }
};

// 96 bytes are 24 of 255 registers, put aside once a tile: where slopes take 32 at 128 columns.
TEST_P(BackwardProgram, SpillsLittle) {
  for (const int d : {64, 128}) {
    for (const Variant& variant : {Variant(), zoo::causal(), zoo::softcap(30), zoo::alibi(8) & zoo::causal()}) {
      SCOPED_TRACE(fmt::format("d {}", d));
      ForwardShape shape;
      shape.d_qk = shape.d_v = d;
      shape.has_lists = !variant.data().stages.empty();
      EXPECT_LE(compile(variant, shape).stack_bytes, 96);
    }
  }
}

TEST_P(BackwardProgram, CompilesForEveryKindOfShape) {
  for (const auto& [d_qk, d_v] : {std::pair{8, 8}, {40, 72}, {96, 128}}) {
    ForwardShape shape;
    shape.d_qk = d_qk;
    shape.d_v = d_v;
    shape.dtype = d_qk == 40 ? DType::float16 : DType::bfloat16;
    shape.has_dropout = d_qk == 96;
    shape.is_aligned = d_qk != 8;
    compile(Variant(), shape);
  }
}

// Gradients of tables keep a tile's products besides, 32 registers, and are no path to be fast on.
TEST_P(BackwardProgram, CompilesWithGradientsOfTablesAndParameters) {
  const Table bias("bias", DType::float32, 2);
  const Parameter cap("cap", 1, 100);
  const Variant variant = zoo::causal() &
                          score([&](Expr s, const At& at) { return cap * tanh(s / cap) + bias(at.head, at.key); }) &
                          zoo::attention_sink();
  for (const int d : {64, 128}) compile(variant, {.d_qk = d, .d_v = d, .has_lists = true, .has_gradients = true});
}

INSTANTIATE_TEST_SUITE_P(Generations, BackwardProgram, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100"),
                         [](const auto& one) { return std::string(one.param); });

TEST(BackwardPlan, AddsUpSharedMemory) {
  ForwardShape shape;
  // k, v and two tiles each of q and d_o, 64 rows of 256 bytes; 64 x 64 gradients; two numbers for 64 rows, twice.
  EXPECT_EQ(BackwardPlan().shared_bytes(shape), 6 * 64 * 256 + 64 * 128 + 2 * 2 * 64 * 4);
  shape.d_v = 136;
  EXPECT_THROW(validate_backward(shape), Error);
}

}  // namespace
}  // namespace tilewise::cuda

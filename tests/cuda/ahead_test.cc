// What is compiled ahead of its use, and the programs that no plan chooses.
#include "cuda/launch/ahead.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "attention/planned_mask.h"
#include "cuda/launch/append.h"
#include "tests/jit/support.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda {
namespace {

/// Names of the programs' kernels, sorted.
std::vector<std::string> kernels_of(const Variant& variant, const AheadShape& shape, const char* architecture) {
  const tiles::Mask mask = attention::planned_mask(variant, {.s_q = 64, .s_kv = 64});
  std::vector<std::string> names;
  for (const jit::Program& program : programs_ahead(variant, mask, shape, jit::Architecture::parse(architecture)))
    names.insert(names.end(), program.kernels.begin(), program.kernels.end());
  std::ranges::sort(names);
  return names;
}

using Names = std::vector<std::string>;

TEST(Ahead, HasEveryFamilysKernels) {
  AheadShape shape;
  EXPECT_EQ(kernels_of(Variant(), shape, "sm_80"), (Names{"forward", "gather", "merge", "write"}));
  EXPECT_EQ(kernels_of(Variant(), shape, "sm_90a"), (Names{"forward", "forward", "gather", "merge", "write"}));
  shape.kernel.d_qk = shape.kernel.d_v = 64;  // another plan for short sequences
  EXPECT_EQ(kernels_of(Variant(), shape, "sm_90a"),
            (Names{"forward", "forward", "forward", "gather", "merge", "write"}));
  shape.kernel = {};
  shape.has_backward = true;
  EXPECT_EQ(kernels_of(Variant(), shape, "sm_89"),
            (Names{"backward", "finish", "forward", "gather", "merge", "prepare", "write"}));
  shape.kernel.is_deterministic = true;
  const Names deterministic = kernels_of(Variant(), shape, "sm_90a");
  EXPECT_EQ(std::ranges::count(deterministic, "backward"), 2);
}

TEST(Ahead, HasListsDecodingAndGradientsWhereTheyAreNeeded) {
  AheadShape shape{.kernel = {.has_lists = true}, .rows = 4, .decodes = true};
  EXPECT_EQ(kernels_of(zoo::causal(), shape, "sm_80"),  // decoding of few units and of many
            (Names{"classify", "decode", "decode", "forward", "gather", "merge", "merge", "merge", "number", "order",
                   "write"}));
  shape.kernel.is_paged = true;
  EXPECT_EQ(std::ranges::count(kernels_of(zoo::causal(), shape, "sm_80"), "decode"), 1);
  shape = {.kernel = {.d_qk = 576, .d_v = 512}, .rows = 128, .decodes = true};
  EXPECT_EQ(kernels_of(Variant(), shape, "sm_90a"), (Names{"decode", "gather", "merge", "write"}));
  shape = {.kernel = {}, .has_backward = true, .differentiates_variant = true};
  const Names names = kernels_of(zoo::relative_position(8), shape, "sm_80");
  EXPECT_EQ(std::ranges::count(names, "backward"), 2);
  EXPECT_EQ(std::ranges::count(names, "store"), 1);
  EXPECT_THROW(kernels_of(Variant(), {}, "sm_75"), Error);
}

class AppendProgram : public jit::WithNvrtc, public ::testing::WithParamInterface<const char*> {};

TEST_P(AppendProgram, Compiles) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    const jit::Binary binary = nvrtc_->compile(append_program(dtype, 576, 40, jit::Architecture::parse(GetParam())));
    EXPECT_LE(binary.kernel("append").resources.value().registers, 128);
  }
}

INSTANTIATE_TEST_SUITE_P(Generations, AppendProgram, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace tilewise::cuda

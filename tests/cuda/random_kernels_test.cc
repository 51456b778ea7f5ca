// Whole kernels of random variants compile for each GPU generation.
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/launch/backward.h"
#include "cuda/launch/forward_program.h"
#include "cuda/launch/hopper_program.h"
#include "cuda/launch/kernel_text.h"
#include "tests/jit/support.h"
#include "tests/laws/random_variant.h"

namespace tilewise::cuda {
namespace {

constexpr std::uint64_t kSeeds = 2;  // a kernel of many operations takes seconds to compile

ForwardShape shape_of(const Variant& variant) {
  ForwardShape shape;
  shape.d_qk = shape.d_v = 64;
  shape.has_dropout = variant.has_dropout();
  const auto& stages = variant.data().stages;
  shape.has_lists = std::any_of(stages.begin(), stages.end(),
                                [](const auto& stage) { return stage.kind == variant::Stage::Kind::keep; });
  return shape;
}

class RandomKernels : public jit::WithNvrtc, public ::testing::WithParamInterface<const char*> {
 protected:
  /// Of the portable family.
  void expect_compiles(const Variant& variant) {
    const jit::Architecture architecture = jit::Architecture::parse(GetParam());
    const Multiprocessor limits = Multiprocessor::of(architecture);
    const ForwardShape shape = shape_of(variant);
    const KeptFields kept = kept_fields(variant, shape.dtype);
    const variant::CudaText text = kernel_text(variant, shape.dtype, false),
                            with_slopes = kernel_text(variant, shape.dtype, true);
    EXPECT_NO_THROW(
        nvrtc_->compile(forward_program(variant, text, shape, choose_forward(shape, limits, kept), architecture)));
    EXPECT_NO_THROW(nvrtc_->compile(backward_program(
        variant, with_slopes, shape, choose_backward(shape, changes_scores(variant), limits, kept), architecture)));
    if (architecture.name() == "sm_90a") expect_compiles_by_wgmma(variant, shape, architecture);
  }

  void expect_compiles_by_wgmma(const Variant& variant, const ForwardShape& shape,
                                const jit::Architecture& architecture) {
    const Multiprocessor limits = Multiprocessor::of(architecture);
    const variant::CudaText text = hopper_text(variant, shape, false), with_slopes = hopper_text(variant, shape, true);
    const HopperForwardPlan forward = hopper_forward_candidates(shape, score_work(variant, text), limits).front();
    EXPECT_NO_THROW(nvrtc_->compile(hopper_forward_program(variant, text, shape, forward, architecture)));
    const HopperBackwardPlan backward =
        hopper_backward_candidates(shape, changes_scores(variant), limits, gradient_slots(variant, shape)).front();
    EXPECT_NO_THROW(nvrtc_->compile(hopper_backward_program(variant, with_slopes, shape, backward, architecture)));
  }
};

TEST_P(RandomKernels, Compile) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    laws::Choices choices = laws::full_tape(seed);
    const Variant variant = laws::random_variant(choices).variant;
    SCOPED_TRACE(laws::listing(variant));
    expect_compiles(variant);
  }
}

INSTANTIATE_TEST_SUITE_P(Generations, RandomKernels, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace tilewise::cuda

// Kernels for float32, split into pieces that tensor cores take: compiled for each GPU generation.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/launch/backward.h"
#include "cuda/launch/decode.h"
#include "cuda/launch/forward_program.h"
#include "cuda/launch/kernel_text.h"
#include "tests/jit/support.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda {
namespace {

ForwardShape shape_of(int d_qk, int d_v) { return {.dtype = DType::float32, .d_qk = d_qk, .d_v = d_v}; }

class Float32Program : public jit::WithNvrtc, public ::testing::WithParamInterface<const char*> {
 protected:
  jit::Architecture architecture() const { return jit::Architecture::parse(GetParam()); }
  Multiprocessor limits() const { return Multiprocessor::of(architecture()); }

  /// Compiles, and holds the stack to so many bytes: pieces of what is split are put aside for a while, since to make
  /// them anew for each product would take longer, and sums of d_k and d_v of 256 columns fill all registers.
  void expect_in_registers(const jit::Program& program, const char* kernel, const std::string& what, int most_stack) {
    const jit::Binary binary = nvrtc_->compile(program);
    EXPECT_EQ(binary.log.find("warning"), std::string::npos) << binary.log;
    const jit::Resources resources = binary.kernel(kernel).resources.value();
    EXPECT_LE(resources.stack_bytes, most_stack) << what << ", " << resources.registers << " registers";
  }

  void expect_forward(const Variant& variant, const ForwardShape& shape) {
    const ForwardPlan plan = choose_forward(shape, limits());
    expect_in_registers(
        forward_program(variant, kernel_text(variant, DType::float32, false), shape, plan, architecture()), "forward",
        fmt::format("d {}/{}, {}, {}", shape.d_qk, shape.d_v, to_string(variant), plan.text()),
        shape.d_qk > 64 ? 192 : 80);
  }
  void expect_backward(const Variant& variant, const ForwardShape& shape) {
    const BackwardPlan plan = choose_backward(shape, changes_scores(variant), limits());
    expect_in_registers(
        backward_program(variant, kernel_text(variant, DType::float32, true), shape, plan, architecture()), "backward",
        fmt::format("d {}/{}, {}, {}", shape.d_qk, shape.d_v, to_string(variant), plan.text()),
        shape.d_qk > 160  ? 1024
        : shape.d_qk > 64 ? 320
                          : 192);
  }
};

TEST_P(Float32Program, ForwardStaysInRegisters) {
  for (const auto& [d_qk, d_v] : {std::pair{64, 64}, {128, 128}, {256, 256}})
    expect_forward(Variant(), shape_of(d_qk, d_v));
  ForwardShape listed = shape_of(64, 64);
  listed.has_lists = true;
  expect_forward(zoo::softcap(30) & zoo::causal(), listed);
  ForwardShape shape = shape_of(72, 72);
  shape.has_dropout = true, shape.is_aligned = false;
  expect_forward(Variant(), shape);
}

TEST_P(Float32Program, BackwardStaysInRegisters) {
  for (const auto& [d_qk, d_v] : {std::pair{8, 40}, {128, 128}}) expect_backward(Variant(), shape_of(d_qk, d_v));
  if (limits().shared_bytes_per_block > 128 * 1024) expect_backward(Variant(), shape_of(256, 256));
  ForwardShape shape = shape_of(64, 64);
  shape.has_lists = true, shape.has_dropout = true;
  expect_backward(zoo::softcap(30) & zoo::causal(), shape);
}

TEST_P(Float32Program, DecodingStaysInRegistersWhereItFits) {
  for (const auto& [d_qk, d_v] : {std::pair{64, 64}, {128, 128}, {576, 512}}) {
    ForwardShape shape = shape_of(d_qk, d_v);
    shape.values_in_keys = d_qk == 576;
    const auto plan = choose_decode(shape, limits(), 16);
    if (!plan) continue;  // the forward kernels take it, up to 256 columns
    expect_in_registers(decode_program(Variant(), variant::cuda_text(Variant()), shape, *plan, architecture()),
                        "decode", fmt::format("d {}/{}, {}", d_qk, d_v, plan->text()), 64);
  }
}

INSTANTIATE_TEST_SUITE_P(Generations, Float32Program, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace tilewise::cuda
